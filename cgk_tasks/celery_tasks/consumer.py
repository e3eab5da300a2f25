"""Celery's consumer, which no message can end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer
from kombu.common import ignore_errors
from kombu.utils.json import dumps

from cgk_tasks.broker import dead_messages
from cgk_tasks.broker.envelope import PACKET_HEADER
from cgk_tasks.broker.unreadable import UnreadableMessageError, bound_unpacking, problem_of

_OF_CONTENT = (LookupError, TypeError, ValueError, AttributeError)


class RunConsumer(Consumer):
    """Sets aside what it cannot read: on Redis in the list of unreadable messages, on RabbitMQ by rejecting it."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc, valid-type]  # its stubs name no class
        """Celery's, without gossip: workers have nothing to tell each other, and it fails when the broker goes away."""

        default_steps = tuple(step for step in Consumer.Blueprint.default_steps if not step.endswith(":Gossip"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        bound_unpacking()
        super().__init__(*args, **kwargs)

    def stop(self) -> None:
        """Called first when the worker stops: what it has only fetched is for others now, and not once its jobs have
        ended.
        """
        super().stop()
        consumer = vars(self)["task_consumer"]
        if consumer is not None:
            connection: Any = self
            ignore_errors(connection, lambda: consumer.channel.basic_recover(requeue=True))

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        receive = super().create_task_handler(*args, **kwargs)
        passed_on: tuple[type[BaseException], ...] = (*vars(self)["connection_errors"], MemoryError)

        def on_task_received(message: Any) -> Any:
            try:
                if isinstance(message.headers.get("task"), str):
                    # Celery keeps what is decoded here, and decodes it no second time.
                    problem = problem_of(message.headers, message.payload, PACKET_HEADER)
                    if problem:
                        return self._set_aside(message, problem)
                elif "task" in message.headers:
                    return self._set_aside(message, "the name of its task is no text")
                return receive(message)
            except passed_on as exc:
                if not isinstance(exc, _OF_CONTENT):  # some of them count as errors of the connection, too
                    raise
                return self._set_aside(message, f"Celery cannot read it ({type(exc).__name__})")
            except Exception as exc:  # noqa: BLE001 - Celery's code for a message assumes that a Celery wrote it
                return self._set_aside(message, f"Celery cannot read it ({type(exc).__name__})")

        return on_task_received

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        # Other errors than ours may quote the body.
        ours = isinstance(exc, UnreadableMessageError)
        self._set_aside(message, str(exc) if ours else f"its body cannot be decoded ({type(exc).__name__})")

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ARG002 - Celery's signature
        self._set_aside(message, "it is no message for a Celery task")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002 - Celery's signature
        self._set_aside(message, f"it is no valid message for a Celery task ({type(exc).__name__})")

    def _set_aside(self, message: Any, problem: str) -> None:
        # The message itself may name another queue than the one it lay in.
        queue = getattr(message.channel, "read_queue", None) or str(
            (message.delivery_info or {}).get("routing_key", "")
        )
        text = _text(message)
        if set_aside := getattr(message.channel, "set_aside", None):
            set_aside(queue, text, problem)
        else:
            dead_messages.report(queue, len(text), problem)
        if not message.acknowledged:
            message.reject(requeue=False)


def _text(message: Any) -> bytes | str:
    body = message.body
    if isinstance(body, bytes | str):
        return body
    try:
        return str(dumps(body))
    except Exception:  # noqa: BLE001 - it is only for people to look at
        return ""
