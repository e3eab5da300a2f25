"""Authentication and authorization of the dashboard's users, on Flower's own pages too."""
