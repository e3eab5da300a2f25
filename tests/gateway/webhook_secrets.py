"""What the senders of the tests sign with, and whose shops there are."""

STANDARD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECRETS = {
    "HOOKS_STANDARD": STANDARD,
    "HOOKS_STRIPE": "whsec_stripe",
    "HOOKS_SHOPIFY": "shopify secret",
    "HOOKS_CLOCK": "0123456789abcdef",
    "QSTASH_CURRENT_SIGNING_KEY": "sig_current",
    "QSTASH_NEXT_SIGNING_KEY": "sig_next",
}
OF_TENANTS = {"acme": ["secret of acme", "old secret of acme"], "globex": "secret of globex"}
SHOPS = {"acme.myshopify.com": "acme", "globex.myshopify.com": "globex", "gone.myshopify.com": "no-such-tenant"}
