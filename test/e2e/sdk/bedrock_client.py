"""boto3's Bedrock client, as anyone would use it."""

import json

import boto3
from botocore.config import Config
from report import WEATHER_PARAMETERS, report

client = boto3.client("bedrock-runtime", config=Config(retries={"total_max_attempts": 1}))
MODEL = "anthropic.claude-sonnet-4-20250514-v1:0"
TOOLS = {"tools": [{"toolSpec": {"name": "get_weather", "inputSchema": {"json": WEATHER_PARAMETERS}}}]}


def request(prompt):
    return {"modelId": MODEL, "messages": [{"role": "user", "content": [{"text": prompt}]}]}


def body(prompt):
    return json.dumps(
        {
            "anthropic_version": "bedrock-2023-05-31",
            "max_tokens": 256,
            "messages": [{"role": "user", "content": prompt}],
        }
    )


def chat(prompt):
    reply = client.converse(**request(prompt))
    return {"text": reply["output"]["message"]["content"][0]["text"], "tokens": reply["usage"]["totalTokens"]}


def stream(prompt):
    text = ""
    for event in client.converse_stream(**request(prompt))["stream"]:
        text += event.get("contentBlockDelta", {}).get("delta", {}).get("text", "")
    return {"text": text}


def tools(prompt):
    reply = client.converse(**request(prompt), toolConfig=TOOLS)
    block = next(part["toolUse"] for part in reply["output"]["message"]["content"] if "toolUse" in part)
    return {"name": block["name"], "arguments": block["input"]}


def invoke(prompt):
    reply = client.invoke_model(modelId=MODEL, body=body(prompt))
    return {"text": json.loads(reply["body"].read())["content"][0]["text"]}


def invoke_stream(prompt):
    text = ""
    for event in client.invoke_model_with_response_stream(modelId=MODEL, body=body(prompt))["body"]:
        text += json.loads(event["chunk"]["bytes"]).get("delta", {}).get("text", "")
    return {"text": text}


def error(prompt):
    client.converse(**request(prompt))


report(
    {
        "chat": chat,
        "stream": stream,
        "tools": tools,
        "invoke": invoke,
        "invoke-stream": invoke_stream,
        "error": error,
    }
)
