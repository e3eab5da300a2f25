"""What the pages show, read from PostgreSQL. The statements are in `cgk_tasks/sql/dashboard.sql`."""
