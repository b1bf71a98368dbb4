"""What a run says, for people and programs: JSON (complete), Markdown, JUnit, HTML."""
