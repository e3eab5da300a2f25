"""Set-up hooks of an application, called for each tenant that is added."""


def make_widgets(tenant, connection):
    connection.execute("CREATE TABLE IF NOT EXISTS widgets (id serial PRIMARY KEY, name text)")


def fail(tenant, connection):
    connection.execute("CREATE TABLE widgets ()")
    _ = 1 / 0
