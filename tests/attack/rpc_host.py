"""A gRPC host of the world outside: says back what it got, in messages, metadata
and trailers."""
from concurrent import futures

import grpc


class Echo(grpc.GenericRpcHandler):
    def __init__(self, seen):
        self.seen = seen

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def answer(self, message, ctx):
        meta = [(k, v if isinstance(v, bytes) else v.encode())
                for k, v in ctx.invocation_metadata()]
        text = b"\n".join(k.encode() + b": " + v for k, v in meta)
        self.seen("G", (text + b"\n\n" + message).decode("latin-1"))
        value = b" ".join(v for k, v in meta
                          if k in ("authorization", "x-key-bin"))
        ctx.send_initial_metadata((("x-head-bin", value),))
        ctx.set_trailing_metadata((("x-end-bin", b"a" + value),
                                   ("x-end", value.decode("latin-1"))))
        return b"<" + message + b"|" + value + b">"


def serve(folder, ip, seen):
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Echo(seen),))
    with open(folder + "/host.key", "rb") as k, \
            open(folder + "/host.pem", "rb") as c:
        creds = grpc.ssl_server_credentials([(k.read(), c.read())])
    assert server.add_secure_port(ip + ":443", creds) == 443
    server.start()
    serve.server = server           # it ends when nobody holds it
