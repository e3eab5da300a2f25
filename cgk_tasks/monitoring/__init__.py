"""What people see of a running system: logs now; metrics and traces beside them."""
