"""A small real LLM serving engine: what the replicas of the sandbox run, and what fast tests serve from.

It answers the OpenAI API and exports vLLM's metrics, so that the operator treats it like any other engine. Start it with
`python -m sandbox.engine`. This file imports nothing: `__main__` has to set the thread count before numpy is loaded.
"""
