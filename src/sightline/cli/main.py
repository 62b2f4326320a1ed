"""The command `sightline`: verbs are loaded when called, so that measuring needs no torch and help is instant."""

import errno
import os
import re
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

import cyclopts

import sightline
from sightline.cli.console import INTERRUPTED, STDERR, fail, note, open_streams
from sightline.cli.habits import Option, in_our_words, our_verb, take_plugins
from sightline.core.errors import ConfigError, InputError, MissingExtraError, SightlineError, value_sentence
from sightline.core.plugins import blame, load_all, load_plugin
from sightline.core.process import read_launch

__all__ = ["build_app", "main"]

VERBS = {
    "demo": ("demo:demo", "Run the whole chain on generated data: the quickest look at everything."),
    "doctor": ("doctor:doctor", "Check the environment: versions, torch, codecs, CPU, threads."),
    "audit": ("audit:audit", "Look through a data set for faults, with file and line."),
    "look": ("look:look", "Draw the labels on the images: random ones, each class, tracks, the places of findings."),
    "augment": ("augment:augment", "Measure what augmentation removes and shrinks on this data, by operation."),
    "synth": ("synth:synth", "Generate labelled scenes: images, masks, a video with tracks."),
    "drill": ("synth:drill", "Plant every fault the audit knows into generated data and count what it finds."),
    "split": ("split:split", "Divide a data set by group, stratified, near-duplicates kept together."),
    "card": ("report:card", "Write the card of a data set: Markdown, HTML and Croissant."),
    "convert": ("convert:convert", "Write a data set in another format and say what is lost."),
    "label": ("label:label", "Make masks of boxes, each with how sure it is, as a new data set."),
    "models": ("models:models", "List the models, or count one's parameters, MACs and FLOPs."),
    "weights": ("weights:weights", "List pretrained weights by name with their licence and origin, or get them."),
    "anchors": ("anchors:anchors", "Propose anchor boxes for the objects of a data set."),
    "train": ("train:train", "Train a model; Ctrl-C leaves a run that --resume continues."),
    "profile": ("study:profile", "Say where the time of training goes: loader, host, forward, backward, optimiser."),
    "ablate": ("study:ablate", "Train variants of one setting with several seeds and compare them."),
    "bench": ("bench:bench", "Train several models on one data set, measure all alike, and compare quality with cost."),
    "tune": ("study:tune", "Search for good settings with Optuna; what is fixed stays fixed."),
    "adopt": ("adopt:adopt", "Take over a model of another tool: a checkpoint (.pt) or an ONNX file."),
    "eval": ("evaluate:evaluate", "Measure a model, or a predictions file, on a data set."),
    "review": ("review:review", "Write what a model got right and wrong, image by image, the worst first."),
    "thresholds": ("thresholds:thresholds", "Find the thresholds a detector is best run with, on validation images."),
    "export": ("export:export", "Write an ONNX file, only if it behaves like the model."),
    "run": ("run:run", "Run a model on images, a video or a camera, with tracking."),
    "report": ("report:report", "Write one offline HTML page of a run."),
}
_EPILOGUE = (
    "Every verb takes --json, and --plugin FILE: a Python file that adds formats, models, trackers, metrics, outputs; "
    "installed ones are found by themselves. What is written --key VALUE may be written key=VALUE."
)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WRONG_PLACE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
    *(errno.ENOENT, errno.EIO, errno.EOPNOTSUPP),  # of a place that goes, fails or takes no files
)
_NO_MEMORY = re.compile(
    r"not enough memory|can(no|')t allocate memory|out of memory|Insufficient memory|failed to map segment",
    re.IGNORECASE,
)
_EXTRA_OF = {
    "torch": "train",
    "onnx": "train",
    "onnxscript": "train",
    "optuna": "train",
}


def build_app() -> cyclopts.App:
    """The application with every verb registered by path."""
    app = cyclopts.App(
        name="sightline",
        version=sightline.__version__,
        help="From labelled images or video to a vision system one can defend.",
        help_epilogue=_EPILOGUE,
        help_format="plaintext",
        suppress_keyboard_interrupt=False,  # `main` says that it was interrupted
    )
    for verb, (target, help_text) in VERBS.items():
        app.command(f"sightline.cli.{target}", name=verb, help=help_text)
    return app


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one verb and exit: 0 done, 1 failed or a finding above the chosen severity, 2 unusable input, 130 Ctrl-C."""
    open_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app = build_app()
        words, plugins = take_plugins(words)
        words = _read(words, plugins, app)
        _check_launch(words)
        code = app(
            words,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        sys.stdout.flush()  # here, where a reader that is gone is still handled
    except SightlineError as error:
        fail(error.block(), error.exit_code)
    except cyclopts.CycloptsError as error:
        fail(_usage_sentence(error, words), InputError.exit_code)
    except ImportError as error:
        if _NO_MEMORY.search(str(error)):  # a library that does not fit
            _fail_for_memory(error)
        missing = _missing_module(error)
        if missing not in _EXTRA_OF:
            raise
        do = f"run: pip install 'sightline[{_EXTRA_OF[missing]}]'"
        fail(str(MissingExtraError(f"this verb needs '{missing}', which is not installed", do=do)), 2)
    except KeyboardInterrupt:
        STDERR.print("[yellow]interrupted[/]")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output (head, say) is gone: nothing is wrong, and nothing more can be said.
        # The interpreter flushes stdout once more when it ends; what is left goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        _fail_for_memory(error)
    except OSError as error:  # a place that takes no output, a full disk among them, is unusable input
        if error.errno not in (*_FULL, *_WRONG_PLACE):
            raise
        fail(f"{error.filename or 'output'}: cannot be written or read ({error.strerror}).", InputError.exit_code)
    except Exception as error:
        at_fault = blame(error)
        if at_fault is None:
            raise
        fail(str(at_fault), at_fault.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _fail_for_memory(error: BaseException) -> NoReturn:
    told = " ".join(str(error).split())[:200] or "no more can be had"
    do = "Give it more, or less work at once: --batch, --imgsz, --workers"
    fail(str(InputError(f"the memory must suffice, got too little: {told}", do=do)), InputError.exit_code)


def _read(words: list[str], plugins: Sequence[str], app: cyclopts.App) -> list[str]:
    """Load the plug-ins, and put what was typed into the words of a verb; help needs neither."""
    if not words or words[0].startswith("-"):
        return words
    if not {"--help", "-h", "--version"}.isdisjoint(words):
        return our_verb(words, VERBS)[0]
    words, renamed = our_verb(words, VERBS)
    verb = words[0]
    if verb == "doctor":  # lists the installed ones, broken or not
        for file in plugins:
            load_plugin(file)
    else:
        load_all(plugins)
    arguments = app[verb].assemble_argument_collection(parse_docstring=False)
    options = {
        name[2:]: Option(
            is_flag=argument.token_count()[0] == 0 or (bool(argument.negatives) and not argument.token_count()[1]),
            takes_several=argument.token_count()[1],
            is_own=not argument.keys,
            has_negative=f"--no-{name[2:]}" in argument.names,
            choices=frozenset(sightline.infer.SINKS) if (verb, name) == ("run", "--save") else frozenset(),
        )
        for argument in arguments
        for name in argument.names
        if name.startswith("--")
    }
    has_settings = any(argument.name == "ASSIGNMENTS" for argument in arguments)
    words, other = in_our_words(words, options, has_settings=has_settings)
    if renamed or other:
        note(f"here this is: sightline {shlex.join(words)}")
    return words


def _check_launch(words: Sequence[str]) -> None:
    """ConfigError where `torchrun` started several processes of what only one may do, or polars would get no thread."""
    threads = os.environ.get("POLARS_MAX_THREADS", "1")
    if not threads.isdecimal() or not 1 <= len(threads.lstrip("0")) <= 4:
        raise ConfigError(f"the variable POLARS_MAX_THREADS must be a number from 1 to 9999, got '{threads:.40}'")
    world = read_launch().world
    if world > 1 and (words[:1] != ["train"] or "--augment-study" in words):
        raise ConfigError(
            f"only a run of 'sightline train' is shared by several processes, got {world} of "
            f"'sightline {' '.join(words[:1])}'",
            do="start it without torchrun",
        )


def _missing_module(error: BaseException | None) -> str:
    """The top-level name of the module whose absence lies behind an import error, or nothing."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("sightline"):
            return error.name.split(".")[0]
        error = error.__cause__
    return ""


def _usage_sentence(error: cyclopts.CycloptsError, words: Sequence[str]) -> str:
    cause = error.__cause__
    pydantic = sys.modules.get("pydantic")  # loaded by the verbs that have options of its kind
    if pydantic is not None and isinstance(cause, pydantic.ValidationError):
        # The field's name is the option's.
        named = re.sub(
            r"^'([\w.]+)'", lambda m: f"--{m[1].replace('_', '-')}", value_sentence(cause.errors(include_url=False)[0])
        )
        return f"{named}."
    verb = next((f"{word} " for word in words[:1] if word in VERBS), "")
    return f"{' '.join(str(error).split())} See 'sightline {verb}--help'."
