"""The OpenAI-compatible endpoint of a run's models: one ASGI application, in process or over HTTP on loopback.

A key is one agent of one episode and dies with it. What a request may ask for is what can be trained on: the rest is
refused with a reason. Left out on purpose: the Responses API, embeddings, images, batches.
"""
