"""What the headless face says: stdout is data, stderr is conversation.

Commands ask a Bay and hand what it answers to this floor; nothing here decides what is
fetched, and nothing below here knows what a terminal is.
"""
