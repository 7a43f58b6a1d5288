"""What the client programs share; see report.mjs: arguments are names of calls, one JSON line comes per call."""

import json
import pathlib
import sys

PROMPTS = {
    "chat": "hello",
    "stream": "customer",
    "responses": "hello",
    "responses-stream": "customer",
    "tools": "weather",
    "stream-tools": "weather",
    "embeddings": "embed this",
    "invoke": "hello",
    "invoke-stream": "customer",
    "error": "broken",
}

WEATHER_PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}, "contact": {"type": "string"}}}


def report(calls):
    """Runs the wanted ones of `calls` in order; each takes its prompt and gives back plain data."""
    for word in sys.argv[1:] or list(calls):
        call, sign, own = word.partition("=")
        prompt = given(own) if sign else PROMPTS[call]
        try:
            line = {"call": call, "ok": True, "result": calls[call](prompt)}
        except Exception as error:  # the class of the error is what is reported
            line = {"call": call, "ok": False, "error": described(error)}
        print(json.dumps(line), flush=True)


def given(prompt):
    return pathlib.Path(prompt[1:]).read_text(encoding="utf-8") if prompt.startswith("@") else prompt


def described(error):
    status = getattr(error, "status_code", None)
    if status is None:
        answer = getattr(error, "response", None)
        if isinstance(answer, dict):
            status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return {"type": type(error).__name__, "status": status, "message": str(error)}
