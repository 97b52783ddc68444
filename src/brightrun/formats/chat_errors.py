"""What can go wrong between a record and its token ids. Each names the cause in words for whoever wrote the file."""


class ChatError(Exception):
    """Root: this record, or this model folder, cannot be turned into labelled tokens. code: of `formats.codes`."""

    code = "template_refused"


class TokenizerFolderError(ChatError, ValueError):
    """A model folder lacks a usable tokenizer: which file, and what to do."""


class ChatTemplateMissingError(TokenizerFolderError):
    """The tokenizer has no chat template: a plain base model, or one whose template was left out."""


class TemplateRefusedError(ChatError, ValueError):
    """The chat template itself refused the conversation; the message is the template's own words."""


class TemplateFaultError(ChatError, ValueError):
    """The chat template broke on the conversation (a missing field, a type it does not expect, a forbidden access)."""

    code = "template_fault"


class UnencodableTextError(ChatError, ValueError):
    """A text holds characters that are no Unicode text (lone surrogates), so no tokenizer can read it."""

    code = "lone_surrogate"


class TrainedSpanError(ChatError, ValueError):
    """The template changes a trained message so that its place in the rendered chat cannot be told for certain."""

    code = "cannot_be_labelled"
