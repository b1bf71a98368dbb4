"""What is asked of an OpenAI-compatible endpoint, and what came back as values. The only part of this room that speaks HTTP."""
