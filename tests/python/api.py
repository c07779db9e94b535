"""Plain HTTP to the native routes, and what several tests ask of the API."""

import json
import urllib.error
import urllib.request

from openai import OpenAI
from processes import wait_for

# The bundled model's tokens that end a text or a turn. Without them it goes on until its limit.
NEVER_END = {"3067": -100, "3069": -100}
STORY = [{"role": "user", "content": "Tell me a story about a fox."}]


class Api:
    """One network's API."""

    def __init__(self, url, key):
        self.url, self.key = url, key
        self.openai = OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=120)

    @property
    def model(self):
        return self.openai.models.list().data[0].id

    def request(self, path, body=None, key=None, method=None):
        """Status, headers and body of an answer, whatever the status."""
        headers = {"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json"}
        data = None if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode())
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=120) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def get(self, path):
        """The JSON of a native route, which must answer."""
        status, _, body = self.request(path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def task(self, task):
        return self.get(f"/v1/tasks/{task}")

    def receipts(self, task, paid=True):
        """The receipts of a task. Vouchers come a moment after the answer."""

        def ready():
            found = self.get(f"/v1/tasks/{task}/receipts")
            return found if found and (not paid or all(one["voucher"] for one in found)) else None

        return wait_for(ready, 30, f"the receipts of {task}")

    def spent(self):
        return int(self.get("/v1/session")["spent"])

    def ask(self, text="What is Cortensor?", **options):
        """A chat completion with its task's id."""
        options = {"model": self.model, "messages": [{"role": "user", "content": text}], "temperature": 0, **options}
        raw = self.openai.chat.completions.with_raw_response.create(**options)
        return raw.parse(), raw.headers["x-cortensor-task"]

    def endless(self, max_tokens=1500, **options):
        """A stream that goes on until its limit or until somebody ends it, with its task's id."""
        return self.ask(
            messages=STORY, stream=True, logit_bias=NEVER_END, max_tokens=max_tokens,
            stream_options={"include_usage": True}, **options,
        )

    def idle(self):
        """Whether no miner works on anything."""
        loads = [model["load"] for node in self.get("/v1/nodes") for model in node["models"]]
        return all(load["active"] == 0 and load["queued"] == 0 for load in loads)


def text_of(chunk):
    """What a chunk of a chat stream adds to the answer."""
    return (chunk.choices[0].delta.content or "") if chunk.choices else ""
