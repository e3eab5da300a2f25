"""Who may do what in the dashboard: users, roles, login, and the guard before every page, Flower's own included."""
