"""Answers from an OpenAI-compatible server such as `vllm serve`: bounded concurrency, time limits, retries, errors that say what to do.

Standard library only. One request per answer, so that each has its own seed and its own token count.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from openrlhf_ext.config.problem import Problem
from openrlhf_ext.evaluate.asking import Ask

KEY_VARIABLE = "OPENAI_API_KEY"
RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)
LONGEST_PAUSE = 30.0


class EndpointError(RuntimeError):
    """The server did not answer as it should; the message says what was asked and what to do."""


@dataclass(frozen=True)
class Endpoint:
    """``url`` is the server's base, e.g. http://localhost:8000/v1; times in seconds."""

    url: str
    model: str
    max_new_tokens: int
    top_p: float = 1.0
    system: str | None = None
    """None = completions of the prompt text; text = chat completions with this system message ("" = none)."""
    concurrency: int = 16
    timeout: float = 120.0
    retries: int = 5
    first_pause: float = 0.5

    def __call__(self, asks: Sequence[Ask]) -> list[dict]:
        """Responses in the order of the asks. The first request that finally fails ends the wave."""
        pool = ThreadPoolExecutor(max_workers=self.concurrency)
        try:
            return list(pool.map(self.answer, asks))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def answer(self, ask: Ask) -> dict:
        """One answer as a response dict: text, truncated, action_ranges."""
        body: dict[str, object] = {
            "model": self.model,
            "max_tokens": self.max_new_tokens,
            "temperature": ask.temperature,
            "top_p": self.top_p if ask.temperature else 1.0,
            "seed": ask.seed,
        }
        if self.system is None:
            path, body["prompt"] = "completions", ask.prompt.text
        else:
            messages = [{"role": "system", "content": self.system}] if self.system else []
            path, body["messages"] = "chat/completions", [*messages, {"role": "user", "content": ask.prompt.text}]
        return _response(self.post(path, body), f"{self.url}/{path}")

    def say(self, messages: Sequence[dict[str, str]], temperature: float, seed: int) -> dict:
        """The assistant's next turn in a conversation, as `answer` returns it."""
        body: dict[str, object] = {
            "model": self.model,
            "max_tokens": self.max_new_tokens,
            "temperature": temperature,
            "top_p": self.top_p if temperature else 1.0,
            "seed": seed,
            "messages": list(messages),
        }
        return _response(self.post("chat/completions", body), f"{self.url}/chat/completions")

    def post(self, path: str, body: dict[str, object]) -> object:
        """The server's JSON answer; waits and asks again where that can help."""
        pause = self.first_pause
        for attempt in range(self.retries + 1):
            try:
                return request(f"{self.url}/{path}", body, self.timeout)
            except _Retry as failure:
                if attempt == self.retries:
                    raise EndpointError(f"{failure} ({self.retries + 1} attempts)") from failure
                time.sleep(min(failure.wait or pause, LONGEST_PAUSE))
                pause *= 2
        raise AssertionError("unreachable")


class _Retry(EndpointError):
    """A failure that may pass. ``wait``: seconds that the server asked for."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


def request(url: str, body: dict[str, object] | None, timeout: float) -> object:
    """One HTTP request with a JSON answer. Raises EndpointError; ``_Retry`` where another attempt may succeed."""
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(KEY_VARIABLE):
        headers["Authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=timeout) as reply:
            text = reply.read()
    except urllib.error.HTTPError as error:
        raise _http_error(url, error) from error
    except TimeoutError as error:
        raise _Retry(
            f"{url} did not answer within {timeout:g} s: raise --request-timeout or lower --concurrency"
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, (TimeoutError, socket.timeout)):
            raise _Retry(f"{url} did not answer within {timeout:g} s: raise --request-timeout") from error
        raise _Retry(f"{url} cannot be reached ({reason}): is the server up, and is this its address?") from error
    try:
        return json.loads(text)
    except ValueError as error:
        raise EndpointError(f"{url} answered with something that is not JSON: {text[:200]!r}") from error


def base_url(text: str) -> str:
    """The base with its `/v1`: http://host:8000, .../v1 and .../v1/completions all mean the same. Raises ValueError."""
    if not text.startswith(("http://", "https://")):
        raise ValueError(f"{text!r} is no URL: give e.g. http://localhost:8000/v1")
    for tail in ("/chat/completions", "/completions", "/models"):
        text = text.rstrip("/").removesuffix(tail)
    return text if text.split("/")[-1].startswith("v") and text.count("/") > 2 else f"{text}/v1"


def served_model(url: str, wanted: str | None, timeout: float = 20.0) -> str | Problem:
    """The name of the model to ask for: the wanted one if the server has it, its only one, or what is wrong."""
    try:
        answer = request(f"{url}/models", None, timeout)
    except EndpointError as error:
        return Problem("--endpoint", str(error), "start it, e.g. `vllm serve MODEL`, and give its URL")
    entries = answer.get("data") if isinstance(answer, dict) else None
    names = [str(entry["id"]) for entry in entries or [] if isinstance(entry, dict) and "id" in entry]
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted in names:
        return str(wanted)
    listed = ", ".join(names[:8]) or "none"
    if wanted is None:
        return Problem(
            "--endpoint", f"the server has {len(names)} models: {listed}", "choose one with --endpoint-model"
        )
    return Problem("--endpoint-model", f"the server has no model {wanted!r}", f"it has {listed}")


def _http_error(url: str, error: urllib.error.HTTPError) -> EndpointError:
    detail = _detail(error.read())
    message = f"{url} answered {error.code} {error.reason}: {detail}"
    if error.code in RETRIED:
        after = error.headers.get("Retry-After", "") if error.headers else ""
        return _Retry(message, float(after) if after.isdigit() else 0.0)
    if error.code in (401, 403):
        return EndpointError(f"{message}. The key is read from the variable {KEY_VARIABLE}")
    if error.code == 404:
        return EndpointError(f"{message}. Is this an OpenAI-compatible server, and the model's name right?")
    return EndpointError(message)


def _detail(data: bytes) -> str:
    """The server's own words, shortened."""
    try:
        answer = json.loads(data)
    except ValueError:
        return data[:300].decode(errors="replace") or "(no text)"
    for key in ("error", "message", "detail"):
        if isinstance(answer, dict) and key in answer:
            answer = answer[key]
    return str(answer)[:300]


def _response(answer: object, url: str) -> dict:
    try:
        choice = answer["choices"][0]  # type: ignore[index]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        finish = choice.get("finish_reason")
        usage = answer.get("usage") or {}  # type: ignore[attr-defined]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise EndpointError(f"{url} answered without choices[0].text: {str(answer)[:300]}") from error
    tokens = usage.get("completion_tokens") or 0
    return {"text": text or "", "truncated": finish == "length", "action_ranges": [(0, int(tokens))]}
