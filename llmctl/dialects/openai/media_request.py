"""Requests of the OpenAI dialect that are billed by more than their text: images, audio, moderation, reranking, and
Mistral's reading of documents.

Shapes: the types of the `openai` package 3.57; https://docs.mistral.ai/api/endpoint/ocr, https://docs.cohere.com/reference/rerank.
What one call may be billed with at most, and what it probably uses where its answer says nothing, is in `media_bounds`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ...domain.call import Ask
from ...domain.demand import IMAGES
from ...domain.errors import Refused
from ...domain.usage import Usage
from .. import media_bounds as bounds
from ..request import Request, check_model, end_user_id, read_model
from ..wire.fields import Fields, bad_request, read_object, read_objects
from ..wire.multipart import Form, FormFields, FormFile
from ..wire.shortened import full_size
from .content import texts_reason

IMAGES_MAX = 1_000  # in one request; OpenAI makes 10, and takes 16
DOCUMENTS_MAX = 100_000
MODERATION_MODEL = "omni-moderation-latest"  # OpenAI's default
# OpenAI's, which are free of charge: https://developers.openai.com/api/docs/guides/moderation. Mistral bills its own.
FREE_MODERATIONS = ("omni-moderation", "text-moderation")
# Of these no variant in another case may stand in a body, and none twice in a form.
MONEY_NAMES = frozenset(
    {"model", "n", "size", "quality", "partial_images", "output_format", "frame_count", "stream", "input", "prompt"}
    | {"instructions", "response_format", "stream_format", "query", "documents", "document", "pages", "user"}
    | {"safety_identifier", "file_url", "url", "file_id", "service_tier"}
)

Source = Fields | FormFields


def read_media(endpoint: str, body: bytes, path_model: str = "") -> Request:
    """The request in a JSON body. Raises Refused."""
    fields = read_object(body, MONEY_NAMES)
    in_body = not path_model
    if endpoint == "moderations" and in_body and "model" not in fields:
        model = MODERATION_MODEL
    else:
        model = check_model(path_model) if path_model else read_model(fields)
    return Request(_READ[endpoint](fields, model), fields.body, fields, model_in_body=in_body)


def read_form(endpoint: str, form: Form, path_model: str = "") -> Request:
    """The request in a form. Raises Refused."""
    fields = FormFields(form, MONEY_NAMES)
    model = path_model or fields.string("model") or ""
    if not model:
        raise bad_request("the form names no model", hint="add a field model", param="model")
    ask = _READ_FORM[endpoint](endpoint, fields, check_model(model), form.files)
    return Request(ask, b"", _NO_FIELDS, model_in_body=not path_model, model_field=fields.field("model"))


def _generations(fields: Fields, model: str) -> Ask:
    return _images("images.generations", fields, model, len(fields.body))


def _edits(fields: Fields, model: str) -> Ask:
    """As JSON, its images are addresses, data, or ids of files."""
    count = size = 0
    for name in ("images", "image", "mask"):
        value = fields.raw(name)
        if value is not None:
            listed = read_objects(value, name)
            count += max(1, len(listed) if listed is not None else 1)
            size += full_size(value)
    return _images("images.edits", fields, model, len(fields.body), images=count, image_bytes=size)


def _edits_form(endpoint: str, fields: FormFields, model: str, files: tuple[FormFile, ...]) -> Ask:
    return _images(endpoint, fields, model, fields.size, images=len(files))


def _images(
    endpoint: str, fields: Source, model: str, text_bytes: int, *, images: int = 0, image_bytes: int = 0
) -> Ask:
    if images > IMAGES_MAX:
        raise bad_request(f"the request holds more than {IMAGES_MAX:,} images")
    output_format = fields.string("output_format") or ""
    if output_format.lower() == "svg":
        raise Refused("not_supported", bounds.SVG, param="output_format")
    count = max(1, fields.integer("n", most=IMAGES_MAX) or 1)
    size, quality = fields.string("size") or "", fields.string("quality") or ""
    tokens_max = bounds.image_tokens(size, quality, dearest=True)
    tokens = bounds.image_tokens(size, quality, dearest=False)
    frames = bounds.FRAMES_MAX if output_format.lower() == "gif" else 1
    partial_tokens = bounds.PARTIAL_IMAGE_TOKENS * (
        fields.integer("partial_images", most=bounds.PARTIAL_IMAGES_MAX) or 0
    )
    input_tokens = bounds.text_tokens(text_bytes - image_bytes)
    return Ask(
        endpoint=endpoint,
        model=model,
        stream=bool(fields.boolean("stream")),
        input_bytes=text_bytes,
        output_tokens_max=tokens_max * frames + partial_tokens,
        output_multiplier=count,
        unbounded_input=IMAGES if images else "",
        images=images,
        image_bytes=image_bytes,
        media_output=True,
        units=(("images", count + images),),  # xAI bills those that it is given too: docs.x.ai/developers/pricing
        end_user=_end_user(fields),
        output_fixed=True,
        guess=Usage(
            input_tokens=input_tokens,
            output_tokens=(tokens + partial_tokens) * count,
            output_image_tokens=(tokens + partial_tokens) * count,
            images=count,
        ),
    )


def _speech(fields: Fields, model: str) -> Ask:
    text = fields.string("input") or ""
    size = len(text.encode("utf-8", "surrogatepass"))
    tokens = bounds.spoken_tokens(len(text))
    return Ask(
        endpoint="audio.speech",
        model=model,
        stream=fields.string("stream_format") == "sse" or bool(fields.boolean("stream")),
        input_bytes=len(fields.body),
        output_tokens_max=bounds.SPOKEN_TOKENS_PER_BYTE_MAX * max(size, 1),
        media_output=True,
        units=(("characters", len(text)),),
        end_user=_end_user(fields),
        output_fixed=True,
        guess=Usage(
            input_tokens=bounds.text_tokens(size + len(fields.string("instructions") or "")),
            output_tokens=tokens,
            output_audio_tokens=tokens,
            characters=len(text),
        ),
    )


def _transcription(endpoint: str, fields: FormFields, model: str, files: tuple[FormFile, ...]) -> Ask:
    seconds_max = sum(bounds.audio_seconds_max(file.size, file.beginning) for file in files)
    seconds = sum(bounds.audio_seconds(file.filename, file.size, file.beginning) for file in files)
    if any(name in fields for name in ("file_url", "url", "file_id")):  # Mistral, Groq
        seconds_max += bounds.REMOTE_AUDIO_SECONDS_MAX
        seconds += bounds.REMOTE_AUDIO_SECONDS
    text_tokens = bounds.text_tokens(fields.size)
    return Ask(
        endpoint=endpoint,
        model=model,
        stream=bool(fields.boolean("stream")),
        input_bytes=fields.size + seconds_max * bounds.AUDIO_TOKENS_PER_S_MAX,
        output_tokens_max=max(1, seconds_max * bounds.TRANSCRIBED_TOKENS_PER_S_MAX),
        media_input=True,
        units=(("audio_seconds", seconds_max),),
        end_user=_end_user(fields),
        output_fixed=True,
        guess=Usage(
            input_tokens=text_tokens + seconds * bounds.AUDIO_TOKENS_PER_S,
            input_audio_tokens=seconds * bounds.AUDIO_TOKENS_PER_S,
            output_tokens=seconds * bounds.TRANSCRIBED_TOKENS_PER_S,
            audio_seconds=seconds,
        ),
    )


def _moderation(fields: Fields, model: str) -> Ask:
    return Ask(
        endpoint="moderations",
        model=model,
        stream=False,
        input_bytes=len(fields.body),
        generates=False,
        free_models=FREE_MODERATIONS,
        unbounded_input=texts_reason(fields.raw("input")),
    )


def _rerank(fields: Fields, model: str) -> Ask:
    """Token prices count the query once more with each document."""
    documents = fields.raw("documents")
    if documents is None:
        raise bad_request("the request has no documents", param="documents")
    try:
        count = max(1, len(_items(documents)))
    except msgspec.ValidationError:
        raise bad_request("documents must be a list", param="documents") from None
    if count > DOCUMENTS_MAX:
        raise bad_request(f"documents holds more than {DOCUMENTS_MAX:,}", param="documents")
    query = fields.raw("query")
    repeated = (full_size(query) if query is not None else 0) * (count - 1)
    size = len(fields.body) + repeated
    return Ask(
        endpoint="rerank",
        model=model,
        stream=False,
        input_bytes=size,
        generates=False,
        units=(("search_units", bounds.search_units_max(count, size)),),
        end_user=_end_user(fields),
        guess=Usage(input_tokens=bounds.text_tokens(size), search_units=bounds.search_units(count)),
    )


def _ocr(fields: Fields, model: str) -> Ask:
    pages = _pages(fields)
    return Ask(
        endpoint="ocr",
        model=model,
        stream=False,
        input_bytes=len(fields.body),
        generates=False,
        units=(("pages", pages),),
        guess=Usage(pages=max(1, min(pages, len(fields.body) // bounds.BYTES_PER_PAGE))),
    )


def _pages(fields: Fields) -> int:
    """How many are asked for: a list of numbers, or a text such as "0-5,7"; else as many as a document may have."""
    value = fields.raw("pages")
    if value is not None and bytes(value).startswith(b"["):
        try:
            return max(1, min(len(_items(value)), bounds.DOCUMENT_PAGES_MAX))
        except msgspec.ValidationError:
            pass
    return bounds.DOCUMENT_PAGES_MAX


def _end_user(fields: Source) -> str:
    return end_user_id(fields.string("safety_identifier") or fields.string("user"))


_NO_FIELDS = read_object(b"{}")
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_READ: dict[str, Callable[[Fields, str], Ask]] = {
    "images.generations": _generations,
    "images.edits": _edits,
    "audio.speech": _speech,
    "moderations": _moderation,
    "rerank": _rerank,
    "ocr": _ocr,
}
_READ_FORM: dict[str, Callable[[str, FormFields, str, tuple[FormFile, ...]], Ask]] = {
    "images.edits": _edits_form,
    "images.variations": _edits_form,
    "audio.transcriptions": _transcription,
    "audio.translations": _transcription,
}
MEDIA = frozenset(_READ) | frozenset(_READ_FORM)
