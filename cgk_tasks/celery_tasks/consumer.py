"""Celery's consumer, which no message can end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from celery import Celery, signals
from celery.worker.consumer import Consumer
from kombu.common import ignore_errors
from kombu.utils.json import dumps

from cgk_tasks.broker import dead_messages
from cgk_tasks.broker.envelope import PACKET_HEADER
from cgk_tasks.broker.unreadable import UnreadableMessageError, bound_unpacking, problem_of
from cgk_tasks.celery_tasks import external_messages
from cgk_tasks.celery_tasks.adapter import UNHANDLED

_CARRIES_ITS_PAYLOAD = "another producer made it: it carries its payload itself and names no run of the record"
_UNKNOWN = "it carries its payload itself, and this worker knows no task of this name"

_HEARTBEAT_EVENT_SECONDS = 5.0
"""Celery's is 2. The event tells how often it comes, so that who listens, as Flower does, knows what silence means."""

_OF_CONTENT = (LookupError, TypeError, ValueError, AttributeError)


class Unfit(NamedTuple):
    """Why a message is not executed. refused: the event or task that other producers may not start."""

    problem: str
    refused: str | None = None


def unfit_for_execution(app: Celery[Any], message: Any) -> Unfit | None:
    """What is wrong with a message; None if nothing is. Raises what Kombu raises for a body that it cannot decode."""
    headers = message.headers
    if "task" in headers and not isinstance(headers["task"], str):
        return Unfit("the name of its task is no text")
    payload = message.payload  # Celery keeps what is decoded here, and decodes it no second time
    if "task" in headers:
        problem = problem_of(headers, payload, PACKET_HEADER)
        if problem or PACKET_HEADER in headers:
            return Unfit(problem) if problem else None
    elif not (isinstance(payload, dict) and "task" in payload):  # else it is of Celery's protocol 1
        return Unfit("it is no message for a Celery task")
    refused = external_messages.refused(app, headers, payload)
    if refused is None:
        return None
    return Unfit(_CARRIES_ITS_PAYLOAD if refused in app.tasks else _UNKNOWN, refused)


class RunConsumer(Consumer):
    """Sets aside what it cannot read and what it refuses: on Redis in a list of such messages, on RabbitMQ by rejecting
    them.
    """

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc, valid-type]  # its stubs name no class
        """Celery's, without gossip: workers have nothing to tell each other, and it fails when the broker goes away."""

        default_steps = tuple(step for step in Consumer.Blueprint.default_steps if not step.endswith(":Gossip"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        bound_unpacking()
        options = kwargs.get("worker_options") or {}
        if options.get("heartbeat_interval") is None:
            kwargs["worker_options"] = {**options, "heartbeat_interval": _HEARTBEAT_EVENT_SECONDS}
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
                unfit = unfit_for_execution(self.app, message)
                if unfit is not None:
                    return self._set_aside(message, unfit.problem, unfit.refused)
                if PACKET_HEADER in message.headers and message.headers["task"] not in self.app.tasks:
                    self._announce_unknown(message, KeyError(message.headers["task"]))
                    message.headers["task"] = UNHANDLED
                return receive(message)
            except UnreadableMessageError as exc:
                return self._set_aside(message, str(exc))
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
        signals.task_rejected.send(sender=self, message=message, exc=None)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002 - Celery's signature
        self._set_aside(message, f"it is no valid message for a Celery task ({type(exc).__name__})")
        signals.task_rejected.send(sender=self, message=message, exc=exc)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002 - Celery's signature
        self._set_aside(message, _UNKNOWN, str(exc.args[0]) if exc.args else "")
        self._announce_unknown(message, exc)

    def _announce_unknown(self, message: Any, exc: Exception) -> None:
        described = message.headers if "task" in message.headers else message.payload
        name, message_id = described.get("task"), described.get("id")
        signals.task_unknown.send(sender=self, message=message, exc=exc, name=name, id=message_id)

    def _set_aside(self, message: Any, problem: str, refused: str | None = None) -> None:
        # The message itself may name another queue than the one it lay in.
        queue = getattr(message.channel, "read_queue", None) or str(
            (message.delivery_info or {}).get("routing_key", "")
        )
        text = _text(message)
        if set_aside := getattr(message.channel, "set_aside", None):
            set_aside(queue, text, problem, refused)
        else:
            dead_messages.report(queue, len(text), problem, refused)
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
