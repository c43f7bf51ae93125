"""A service with Django: products and their jobs are one transaction, and a search has a deadline.

    pip install embedq django uvicorn 'psycopg[binary]'
    export DATABASE_URL=postgresql://localhost/app EMBEDQ_BROKER_URL=redis://localhost:6379/0
    uvicorn django_app:application

One file, to be read at once; in a project of yours settings, model, views and URLs have theirs.
It needs a collection (`embedq collection create products --model …`) and the model's table.
"""

from __future__ import annotations

import json
import os
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.db import IntegrityError, connection, models, transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_GET, require_POST
from psycopg.conninfo import conninfo_to_dict

from embedq import BrokerUnavailable, InvalidItem, Producer, QueryError, enqueue_in

server = conninfo_to_dict(os.environ["DATABASE_URL"])
settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": server.pop("dbname"),
            "OPTIONS": server,
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    ROOT_URLCONF=__name__,
)
django.setup()
producer = Producer()  # connects when it is first used; one for all threads

SEARCH = """
SELECT product.sku, product.name, found.distance
FROM products_search(%s::real[]::vector, %s, %s) AS found JOIN product ON product.sku = found.id
ORDER BY found.distance
"""
SEARCH_SECONDS = 2.0


class Product(models.Model):
    """A product, whose text is embedded."""

    sku = models.TextField(primary_key=True)
    name = models.TextField(unique=True)
    about = models.TextField()

    class Meta:
        """Where it lives."""

        app_label = "shop"
        db_table = "product"

    def item(self) -> dict[str, Any]:
        """What is embedded of it."""
        return {"id": self.sku, "text": f"{self.name}\n{self.about}", "metadata": {"name": self.name}}


@require_POST
def import_products(request: HttpRequest) -> JsonResponse:
    """Store a list of products. Each is embedded if, and only if, this transaction commits."""
    try:
        with transaction.atomic():
            for values in json.loads(request.body):
                product = Product(**values)
                product.save()
                enqueue_in(connection, "products", **product.item())
    except InvalidItem as error:  # its message holds no text
        return JsonResponse({"detail": str(error)}, status=422)
    except IntegrityError:
        return JsonResponse({"detail": "two products have one name"}, status=409)
    return JsonResponse({})


@require_GET
def search(request: HttpRequest) -> JsonResponse:
    """The products that are nearest to a question."""
    try:
        vector = producer.embed_query("products", request.GET.get("question", ""), timeout=SEARCH_SECONDS)
    except InvalidItem as error:
        return JsonResponse({"detail": str(error)}, status=422)
    except (QueryError, BrokerUnavailable) as error:
        return JsonResponse({"detail": str(error)}, status=503, headers={"Retry-After": "1"})
    with connection.cursor() as cursor:
        cursor.execute(SEARCH, [vector, 5, vector.generation])
        names = [column.name for column in cursor.description]
        return JsonResponse({"found": [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]})


urlpatterns = [path("products", import_products), path("search", search)]
application = get_asgi_application()
