"""Calls of other systems that become events: webhooks that they sign, and the ticks of outside clocks."""
