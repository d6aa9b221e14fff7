"""compalign's packaging: each folder at the top of the repository becomes one module of the `compalign` namespace."""

from setuptools import setup

# Import name -> folder. Listed rather than discovered: nothing generic ("data", "scripts") may reach site-packages.
FOLDERS = {
    "compalign.modeling": "modeling",
    "compalign.modeling.degla_clip": "modeling/degla_clip",
    "compalign.modeling.ce_clip": "modeling/ce_clip",
    "compalign.modeling.llava_cal": "modeling/llava_cal",
    "compalign.modeling.comalign": "modeling/comalign",
    "compalign.modeling.conversion": "modeling/conversion",
    "compalign.trainers": "trainers",
    "compalign.data": "data",
    "compalign.data.scenes": "data/scenes",
    "compalign.data.negatives": "data/negatives",
    "compalign.data.components": "data/components",
    "compalign.evaluation": "evaluation",
    "compalign.evaluation.benchmarks": "evaluation/benchmarks",
    "compalign.evaluation.metric_modules": "evaluation/metric_modules",
    "compalign.hub_cards": "hub_cards",
    "compalign.scripts": "scripts",
}

EXTRAS = {
    "negatives": ["spacy>=3.8"],
    "eval": ["evaluate>=0.4.6"],
    "hub": ["jinja2>=3.1"],
    "deepspeed": ["deepspeed>=0.18.9,<0.19.8"],
    "qlora": ["bitsandbytes>=0.48"],
    "space": ["gradio>=6.31,<7"],
    "browser": ["playwright>=1.55"],
    "dev": ["pytest>=8", "pytest-cov>=5", "pytest-xdist>=3.6", "ruff>=0.14", "setuptools>=77", "wheel>=0.45"],
}

setup(
    name="compalign",
    version="0.1.0",
    description="Compositional alignment of vision-language models on the Hugging Face stack.",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=list(FOLDERS),
    package_dir=FOLDERS,
    package_data={
        "compalign.data.negatives": ["*.json"],
        "compalign.evaluation": ["*.json"],
        "compalign.evaluation.benchmarks": ["*.json"],
        "compalign.hub_cards": ["*.md", "*.yaml", "released/*/*", "space/*"],
        "compalign.trainers": ["templates/*.jinja"],
        "compalign.scripts": ["recipes/*.yaml", "deepspeed/*.json"],
    },
    install_requires=[
        "torch>=2.11",
        "transformers>=5.17,<6",
        "accelerate>=1.15",
        "datasets>=5",
        "peft>=0.21",
        "huggingface_hub>=1.5",
        "safetensors>=0.8",
        "numpy>=2",
        "pillow>=12",
        "pyyaml>=6",
        "matplotlib>=3.10",
        "textblob>=0.20",
        "jinja2>=3.1",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["compalign=compalign.scripts.cli:main"]},
)
