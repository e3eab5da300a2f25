-- name: user
-- The user of this name, in whatever case it is written; else the longest pattern that matches it.
SELECT name, role, password_hash, version::text AS version FROM cgk.dashboard_users
 WHERE lower(%(name)s) LIKE like_pattern
 ORDER BY strpos(name, '*') > 0, length(name) DESC, lower(name) LIMIT 1;

-- name: users
SELECT name, role, password_hash, version::text AS version FROM cgk.dashboard_users ORDER BY lower(name);

-- name: has_passwords
SELECT EXISTS (SELECT FROM cgk.dashboard_users WHERE password_hash IS NOT NULL) AS found;

-- name: save_user
INSERT INTO cgk.dashboard_users (name, role, password_hash) VALUES (%(name)s, %(role)s, %(password_hash)s)
ON CONFLICT (lower(name)) DO UPDATE
   SET name = excluded.name, role = excluded.role, password_hash = excluded.password_hash, version = DEFAULT;

-- name: insert_user
INSERT INTO cgk.dashboard_users (name, role, password_hash) VALUES (%(name)s, %(role)s, %(password_hash)s)
ON CONFLICT (lower(name)) DO NOTHING RETURNING name;

-- name: set_role
UPDATE cgk.dashboard_users SET role = %(role)s, version = DEFAULT WHERE lower(name) = lower(%(name)s);

-- name: set_password
UPDATE cgk.dashboard_users SET password_hash = %(password_hash)s, version = DEFAULT WHERE lower(name) = lower(%(name)s);

-- name: renew_password_hash
-- The same password in a newer kind of hash: sessions go on. Not if the password has been changed meanwhile.
UPDATE cgk.dashboard_users SET password_hash = %(password_hash)s
 WHERE lower(name) = lower(%(name)s) AND version::text = %(version)s;

-- name: remove_user
DELETE FROM cgk.dashboard_users WHERE lower(name) = lower(%(name)s);

-- name: create_session
INSERT INTO cgk.dashboard_sessions (token_hash, user_name, account_version, expires_at)
VALUES (%(token_hash)s, %(user_name)s, %(account_version)s, now() + make_interval(secs => %(seconds)s));

-- name: delete_expired_sessions
DELETE FROM cgk.dashboard_sessions WHERE expires_at <= now();

-- name: session
SELECT user_name, account_version FROM cgk.dashboard_sessions WHERE token_hash = %(token_hash)s AND expires_at > now();

-- name: delete_session
DELETE FROM cgk.dashboard_sessions WHERE token_hash = %(token_hash)s;

-- name: delete_sessions_of_user
DELETE FROM cgk.dashboard_sessions WHERE lower(user_name) = lower(%(name)s);
