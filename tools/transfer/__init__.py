"""Transfer: the eleven sets, and the demo of all three tasks."""
