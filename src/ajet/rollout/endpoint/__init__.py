"""The OpenAI-compatible door to a run's models: HTTP on loopback, or the same handler without a socket.

    request ──▶ handler: key ▶ session ▶ checked body ▶ ChatModel on the rollout's loop ──▶ OpenAI's reply

A key is one agent of one episode and dies with it. What a request may ask for is what can be trained on: the rest is
refused with a reason. Left out on purpose: the Responses API, embeddings, images, batches.
"""
