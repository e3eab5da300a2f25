from config.which_celery import tenant_context


class ShopOfRequest:
    """Each request is about one shop, the tenant."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        with tenant_context(request.headers.get("X-Shop", "acme")):
            return self.get_response(request)
