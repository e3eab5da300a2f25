"""The platform's own housekeeping: health, clean-up, recovery, alerts."""
