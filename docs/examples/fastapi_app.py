"""A service with FastAPI: a product and its job are one transaction, and a search has a deadline.

    pip install embedq fastapi uvicorn 'psycopg[binary,pool]'
    export DATABASE_URL=postgresql://localhost/app EMBEDQ_BROKER_URL=redis://localhost:6379/0
    uvicorn fastapi_app:app

It needs a table, and a collection (`embedq collection create products --model …`):

    CREATE TABLE product (sku text PRIMARY KEY, name text NOT NULL, about text NOT NULL);
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel

from embedq import AsyncProducer, EmbedqError, InvalidItem, QueryError, delete_in, enqueue_in

STORE = """
INSERT INTO product (sku, name, about) VALUES (%s, %s, %s)
ON CONFLICT (sku) DO UPDATE SET name = excluded.name, about = excluded.about
"""
SEARCH = """
SELECT product.sku, product.name, found.distance
FROM products_search(%s::real[]::vector, %s, %s) AS found JOIN product ON product.sku = found.id
ORDER BY found.distance
"""
SEARCH_SECONDS = 2.0

producer = AsyncProducer()  # connects when it is first used
database = AsyncConnectionPool(os.environ["DATABASE_URL"], open=False)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Connections while the service runs."""
    async with database, producer:
        yield


app = FastAPI(lifespan=lifespan)


class Product(BaseModel):
    """What a product says."""

    name: str
    about: str


@app.put("/products/{sku}")
async def put_product(sku: str, product: Product) -> None:
    """Store a product. It is embedded if, and only if, this transaction commits."""
    async with database.connection() as connection:  # commits at the end of the block, before the answer
        await connection.execute(STORE, [sku, product.name, product.about])
        text = f"{product.name}\n{product.about}"
        await enqueue_in(connection, "products", id=sku, text=text, metadata={"name": product.name})


@app.delete("/products/{sku}")
async def delete_product(sku: str) -> None:
    """Remove a product, and its vector with it."""
    async with database.connection() as connection:
        await connection.execute("DELETE FROM product WHERE sku = %s", [sku])
        await delete_in(connection, "products", [sku])


@app.get("/search")
async def search(question: str, count: int = 5) -> list[dict[str, Any]]:
    """The products that are nearest to a question."""
    vector = await producer.embed_query("products", question, timeout=SEARCH_SECONDS)
    async with database.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(SEARCH, [vector, count, vector.generation])
        return await cursor.fetchall()


@app.exception_handler(EmbedqError)
async def refused(_: Request, error: EmbedqError) -> JSONResponse:
    """Whose fault it is: the text's (422), or a moment's (503). The messages hold no text."""
    if isinstance(error, InvalidItem):
        return JSONResponse({"detail": str(error)}, status_code=422)
    headers = {"Retry-After": "1"} if isinstance(error, QueryError) else None
    return JSONResponse({"detail": str(error)}, status_code=503, headers=headers)
