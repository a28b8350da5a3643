"""The queues of the broker, and the work that waits in each."""

OPS = "ops"  # opening, dispatching, sweeping: never behind charges
RECONCILE = "reconcile"  # asking the gateway
CHARGES = "charges"  # ad-hoc charges: a person waits for them
BULK = "charges.bulk"  # renewals
EVENTS = "events"  # telling the shop
REQUESTS = "requests"  # what other backends ask for
QUEUES = (OPS, RECONCILE, CHARGES, BULK, EVENTS, REQUESTS)
