"""Networks of Hugging Face's transformers (`hf:…`) in our protocol."""
