"""A made-up population of declined charges, on which dunning policies are compared; a model, no evidence."""
