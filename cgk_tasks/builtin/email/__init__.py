"""`email.send`: a template filled in, sent by SMTP for its tenant."""
