"""Prompt templates by name, for models whose tokenizer brings none: the forms that the RLLR project gave its models.

The text is what the model family was tuned with; the project's own renderings differ in places, which docs/rllr.md lists.
"""

NAMED: dict[str, tuple[str, str]] = {
    "default": ("{system}\n", "Human: {question}\nAssistant: "),
    "llama2": ("<<SYS>>\n{system}\n<</SYS>>\n\n", "[INST] {question} [/INST]"),
    "mistral": ("{system}\n\n", "[INST] {question} [/INST]"),
    "baichuan2": ("{system}", "<reserved_106>{question}<reserved_107>"),
}
"""Name -> how a system message is written where there is one, and the turn around the question."""

DEEPSEEK_MATH = ("deepseek-math", "deepseek-math-bos")
"""DeepSeekMath-Instruct's form, in which the instruction follows the question; ``-bos``: behind the tokenizer's first token as text,
which generation, training and evaluation here do not add by themselves."""
BOXED = "Please reason step by step, and put your final answer within \\boxed{}."

REFUSED: dict[str, str] = {
    "chatglm3": (
        "ChatGLM3 marks turns with role tokens that its tokenizer never makes from text, so a text template would spell them out; "
        "use --template chat with a tokenizer that has a chat template"
    ),
}
"""Name -> why it is not offered."""


def render_named(template: str, question: str, system: str = "") -> str:
    """The prompt text. In llama2 and mistral the system message stands inside the first instruction, elsewhere before the turn."""
    before, turn = NAMED[template]
    head = before.format(system=system) if system else ""
    question = question.rstrip("\n")
    if template in ("llama2", "mistral"):
        return turn.format(question=head + question)
    return head + turn.format(question=question)


def render_deepseek_math(question: str, instruction: str = "", bos: str = "") -> str:
    """``User: question``, the instruction on the next line, an open turn of the assistant."""
    return f"{bos}User: {question.rstrip(chr(10))}\n{instruction or BOXED}\n\nAssistant:"
