"""A real HTTP server that speaks OpenAI's API, with a tiny model behind it: its completions are real.

It keeps the rule of vLLM's server: completion i of a request has the seed s + i. Faults and quirks are put in by hand.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from restrl.policy.decode_loop import Row, decode
from restrl.policy.sampling import uniforms
from restrl.policy.text import Detokenizer, StopChecker
from restrl.policy.transformers_engine import eos_ids
from restrl.types import SamplingParams

MODEL = "tiny"


@dataclass
class Quirks:
    """What this server does not do, or does its own way.

    Attributes:
        refuses: Words; a body that holds one of these fields gets status 400, which names it.
        one_choice: It ignores ``n``.
        same_seed: Every choice of a request has the same seed.
        ignores_seed: It draws anew every time.
        no_completions: ``/completions`` says that this is a chat model, as OpenAI does.
        no_chat: There is no ``/chat/completions``.
        max_stops: More stop strings than that are refused; 0 is no limit.
        restarts: A chat starts a new answer and does not go on with the prefilled one.
        strips: Its chat template strips the whitespace off a message.
        silent: It says nothing of usage.
        key: The key that it wants.
        context: Longest sequence, told by ``/models``.
    """

    refuses: tuple[str, ...] = ()
    one_choice: bool = False
    same_seed: bool = False
    ignores_seed: bool = False
    no_completions: bool = False
    no_chat: bool = False
    max_stops: int = 0
    restarts: bool = False
    strips: bool = False
    silent: bool = False
    key: str = ""
    context: int = 512


@dataclass
class Fault:
    """What happens to one request instead of an answer.

    Attributes:
        status: This HTTP status, unless 0.
        body: With this body (also for status 200).
        headers: And these headers.
        delay_s: After so long.
        drop: The connection is closed without a word.
    """

    status: int = 0
    body: str = '{"error": {"message": "not now", "type": "server_error", "code": null}}'
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    drop: bool = False


class StandInServer:
    """See the module; a context manager.

    Attributes:
        url: Base address.
        prompts: The text of every prompt, as the model saw it.
        bodies: Every request's path, headers and body.
        faults: Taken from the front, one per request.
        most_at_once: Most requests that were under way together.
    """

    def __init__(self, model: Any, tokenizer: Any, quirks: Quirks | None = None, pause_s: float = 0.0) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.quirks = quirks or Quirks()
        self.pause_s = pause_s
        self.prompts: list[str] = []
        self.bodies: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.faults: list[Fault] = []
        self.most_at_once = 0
        self.times: list[float] = []
        self._now = 0
        self._draws = 0
        self._seen: set[tuple[int, ...]] = set()
        self._detokenizer = Detokenizer(tokenizer)
        self._lock, self._model_lock = threading.Lock(), threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

            def do_GET(self) -> None:
                card = {"id": MODEL, "object": "model", "max_model_len": server.quirks.context}
                self._send(200, json.dumps({"object": "list", "data": [card]}))

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(length))
                with server._lock:
                    server._now += 1
                    server.most_at_once = max(server.most_at_once, server._now)
                    server.bodies.append((self.path, dict(self.headers), body))
                    server.times.append(time.monotonic())
                    fault = server.faults.pop(0) if server.faults else None
                try:
                    if fault is not None:
                        time.sleep(fault.delay_s)
                        if fault.drop:
                            self.close_connection = True
                            return
                        self._send(fault.status or 200, fault.body, fault.headers)
                        return
                    time.sleep(server.pause_s)
                    status, answer = server.answer(self.path, dict(self.headers), body)
                    self._send(status, json.dumps(answer))
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True
                finally:
                    with server._lock:
                        server._now -= 1

            def _send(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
                content = text.encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> StandInServer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def answer(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and JSON of one request."""
        quirks = self.quirks
        if quirks.key and headers.get("Authorization") != f"Bearer {quirks.key}":
            return _error(401, f"Incorrect API key provided: {headers.get('Authorization', '')[7:]}", "invalid_api_key")
        if body["model"] != MODEL:
            return _error(404, f"The model `{body['model']}` does not exist", "model_not_found")
        chat = path == "/v1/chat/completions"
        if quirks.no_completions and not chat:
            return _error(404, "This is a chat model and not supported in the v1/completions endpoint.", "")
        if path not in ("/v1/completions", "/v1/chat/completions") or (chat and quirks.no_chat):
            return _error(404, "Not Found", "")
        for word in quirks.refuses:
            if word in body or (word == "token_ids" and isinstance(body.get("prompt"), list)):
                name = "prompt" if word == "token_ids" else word
                return _error(400, f"Unrecognized request argument supplied: '{name}'", "")
        if quirks.max_stops and len(body.get("stop", ())) > quirks.max_stops:
            return _error(400, "Invalid 'stop': array too long. Expected an array with maximum length 4", "")
        if body["temperature"] == 0 and body.get("n", 1) > 1:
            return _error(400, "n must be 1 when using greedy sampling", "")
        prompt = self._chat_prompt(body) if chat else body["prompt"]
        ids = prompt if isinstance(prompt, list) else self.tokenizer(prompt)["input_ids"]
        if len(ids) + body["max_tokens"] > quirks.context:
            return _error(400, f"This model's maximum context length is {quirks.context} tokens.", "")
        return 200, self._complete(tuple(ids), body, chat)

    def _chat_prompt(self, body: dict[str, Any]) -> str:
        *messages, last = body["messages"]
        head = "".join(f"<{m['role']}>\n{m['content'].strip()}\n" for m in messages) + "<assistant>\n"
        if self.quirks.restarts:
            return head + "```python\n" + last["content"].split("```python\n")[1]
        assert "continue_final_message" in self.quirks.refuses or body["continue_final_message"]
        content = last["content"]
        return head + (content.strip() if self.quirks.strips else content)

    def _complete(self, ids: tuple[int, ...], body: dict[str, Any], chat: bool) -> dict[str, Any]:
        quirks = self.quirks
        params = SamplingParams(body["temperature"], body["top_p"], body["max_tokens"])
        n = 1 if quirks.one_choice else body.get("n", 1)
        with self._model_lock:
            self.prompts.append(self.tokenizer.decode(list(ids)))
            seeds = [body.get("seed", 0) + (0 if quirks.same_seed else i) for i in range(n)]
            if quirks.ignores_seed or "seed" not in body:
                seeds = [10**6 + self._draws + i for i in range(n)]
                self._draws += n
            stops = body.get("stop", [])
            rows = [
                Row(ids, params.max_new_tokens, uniforms(seed, 0, params.max_new_tokens), self._checker(ids, stops))
                for seed in seeds
            ]
            with torch.inference_mode():
                decode(self.model, rows, params, eos_ids(self.model, self.tokenizer), 0, lambda *_: None)
            cached = len(ids) // 16 * 16 if ids in self._seen else 0
            self._seen.add(ids)
        choices = [self._choice(index, row, body, chat) for index, row in enumerate(rows)]
        answer: dict[str, Any] = {"id": "c", "object": "text_completion", "model": MODEL, "choices": choices}
        if not quirks.silent:
            generated = sum(len(row.tokens) for row in rows)
            answer["usage"] = {
                "prompt_tokens": len(ids),
                "completion_tokens": generated,
                "total_tokens": len(ids) + generated,
                "prompt_tokens_details": {"cached_tokens": cached},
            }
        return answer

    def _checker(self, ids: tuple[int, ...], stops: list[str]) -> StopChecker:
        return StopChecker(self._detokenizer, ids, "", stops)

    def _choice(self, index: int, row: Row, body: dict[str, Any], chat: bool) -> dict[str, Any]:
        text = self._detokenizer.text(row.prompt_ids, row.tokens)
        cut = row.checker.cut(text)
        text = text if cut is None else cut
        if chat and self.quirks.restarts:
            # A whole answer: prose, the program from its beginning, a closing fence.
            program = body["messages"][-1]["content"].split("```python\n")[1]
            text = f"Here it is:\n```python\n{program}{text}\n```\nDone."
        choice: dict[str, Any] = {"index": index, "finish_reason": "stop" if row.stopped else "length"}
        pieces = [self._detokenizer.piece(token) for token in row.tokens]
        if chat:
            choice["message"] = {"role": "assistant", "content": text}
            if body.get("logprobs"):
                listed = [{"token": p, "logprob": x} for p, x in zip(pieces, row.logprobs, strict=True)]
                choice["logprobs"] = {"content": listed}
        else:
            choice["text"] = text
            if body.get("logprobs"):
                choice["logprobs"] = {"tokens": pieces, "token_logprobs": row.logprobs}
        return choice


def _error(status: int, message: str, code: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"message": message, "type": "invalid_request_error", "code": code or None}}
