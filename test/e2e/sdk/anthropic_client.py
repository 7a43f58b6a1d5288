"""The official Anthropic SDK for Python, as anyone would use it."""

from anthropic import Anthropic
from report import WEATHER_PARAMETERS, report

client = Anthropic(max_retries=0)
TOOLS = [{"name": "get_weather", "input_schema": WEATHER_PARAMETERS}]


def request(prompt):
    return {
        "model": "claude-opus-4-6",
        "max_tokens": 256,
        "system": "You are brief.",
        "messages": [{"role": "user", "content": prompt}],
    }


def chat(prompt):
    reply = client.messages.create(**request(prompt))
    return {"text": reply.content[0].text, "tokens": reply.usage.input_tokens + reply.usage.output_tokens}


def stream(prompt):
    text = ""
    with client.messages.stream(**request(prompt)) as events:
        for delta in events.text_stream:
            text += delta
        final = events.get_final_message()
    return {"text": text, "same": text == final.content[0].text}


def tools(prompt):
    reply = client.messages.create(**request(prompt), tools=TOOLS)
    block = next(part for part in reply.content if part.type == "tool_use")
    return {"name": block.name, "arguments": block.input}


def stream_tools(prompt):
    with client.messages.stream(**request(prompt), tools=TOOLS) as events:
        reply = events.get_final_message()
    block = next(part for part in reply.content if part.type == "tool_use")
    return {"name": block.name, "arguments": block.input}


def error(prompt):
    client.messages.create(**request(prompt))


report({"chat": chat, "stream": stream, "tools": tools, "stream-tools": stream_tools, "error": error})
