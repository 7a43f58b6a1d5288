"""An OTLP/HTTP receiver on loopback that takes what OpenTelemetry's own protobuf definitions parse, and nothing else.

Arguments: port (0: a free one), file. Prints its port; writes a line of JSON for each request to the file.
"""

import base64
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace

REQUESTS = {"/v1/traces": trace.ExportTraceServiceRequest, "/v1/metrics": metrics.ExportMetricsServiceRequest}


def hex_ids(value):
    """OTLP's JSON has ids in hex where protobuf's has base64 (the one difference between the two)."""
    if isinstance(value, list):
        return [hex_ids(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(one)).decode() if key in ("traceId", "spanId", "parentSpanId") else hex_ids(one)
        for key, one in value.items()
    }


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            given = json.loads(body)
            parsed = json_format.ParseDict(hex_ids(given), REQUESTS[self.path]())
            assert self.headers["content-type"] == "application/json"
            for resource in getattr(parsed, "resource_spans", []):
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        assert len(span.trace_id) == 16 and len(span.span_id) == 8, "an id of another length"
                        assert len(span.parent_span_id) in (0, 8), "a parent's id of another length"
                        assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano, "it ends before it starts"
                        assert span.name != "", "no name"
            line = {"path": self.path, "request": given, "headers": dict(self.headers)}
            status, answer = 200, b"{}"
        except Exception as error:  # what is wrong with it is what the test shows
            line = {"path": self.path, "refused": repr(error), "body": body.decode(errors="replace")}
            status, answer = 400, json.dumps({"message": repr(error)}).encode()
        with open(sys.argv[2], "a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
print(server.server_address[1], flush=True)
server.serve_forever()
