"""The work: whatever touches a socket, a table or a clock."""
