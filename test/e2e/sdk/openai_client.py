"""The official OpenAI SDK for Python, as anyone would use it."""

import json

from openai import OpenAI
from report import WEATHER_PARAMETERS, report

client = OpenAI(max_retries=0)
MODEL = "gpt-4o-mini"
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER_PARAMETERS}}]


def messages(prompt):
    return [{"role": "system", "content": "You are brief."}, {"role": "user", "content": prompt}]


def chat(prompt):
    reply = client.chat.completions.create(model=MODEL, messages=messages(prompt))
    return {"text": reply.choices[0].message.content, "tokens": reply.usage.total_tokens}


def stream(prompt):
    text = ""
    for chunk in client.chat.completions.create(model=MODEL, messages=messages(prompt), stream=True):
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
    return {"text": text}


def tools(prompt):
    reply = client.chat.completions.create(model=MODEL, messages=messages(prompt), tools=TOOLS)
    called = reply.choices[0].message.tool_calls[0].function
    return {"name": called.name, "arguments": json.loads(called.arguments)}


def responses(prompt):
    reply = client.responses.create(model=MODEL, input=prompt)
    return {"text": reply.output_text, "tokens": reply.usage.total_tokens}


def responses_stream(prompt):
    text = ""
    for event in client.responses.create(model=MODEL, input=prompt, stream=True):
        if event.type == "response.output_text.delta":
            text += event.delta
    return {"text": text}


def embeddings(prompt):
    reply = client.embeddings.create(model="text-embedding-3-small", input=prompt)
    return {"vector": reply.data[0].embedding}


def error(prompt):
    client.chat.completions.create(model=MODEL, messages=messages(prompt))


report(
    {
        "chat": chat,
        "stream": stream,
        "tools": tools,
        "responses": responses,
        "responses-stream": responses_stream,
        "embeddings": embeddings,
        "error": error,
    }
)
