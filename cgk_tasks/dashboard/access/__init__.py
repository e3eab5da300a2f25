"""Authentication and authorization of the dashboard's users, at Flower too."""
