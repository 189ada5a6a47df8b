"""Pictures side by side: adapters x weights x prompts x seeds, drawn here or elsewhere, kept, and shown."""
