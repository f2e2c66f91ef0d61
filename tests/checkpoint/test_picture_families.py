"""Single files of every family: merged, drawn with, converted, read beside folders."""

import hashlib
import inspect
from itertools import product

import numpy as np
import pytest
import torch
from helpers.single_files import FAMILIES, modules, pipeline
from safetensors.torch import load_file, save_file

import m2n2lab
from m2n2lab import InputError
from m2n2lab.checkpoint import Checkpoint
from m2n2lab.checkpoint.io.picture_layouts import layout
from m2n2lab.checkpoint.picture_conversion import write_file

DENOISERS = {"sd1": "unet", "sdxl": "unet", "sd3": "transformer", "flux": "transformer"}


def quick(*first_and_all):
    """Return parameters of which all but the first ones are slow."""
    *first, every = first_and_all
    rest = [each for each in every if each not in first]
    return [
        *(pytest.param(*each) for each in first),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in rest),
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("families")
    torch.set_num_threads(1)
    for family in FAMILIES:
        for seed, name in enumerate("AB"):
            folder = pipeline(family, home / f"{family}{name}", seed)
            write_file(folder, home / f"{family}{name}.safetensors", {})
    return home


def both(home, family, suffix=""):
    return [home / f"{family}{name}{suffix}" for name in "AB"]


def flat(tensors):
    return torch.cat([tensor.double().flatten() for tensor in tensors]).numpy()


def own_slerp(x, y, mix):
    omega = np.arccos(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
    return (np.sin((1 - mix) * omega) * x + np.sin(mix * omega) * y) / np.sin(omega)


def read_by_diffusers(file, family, config):
    """Return the denoiser that diffusers' own loader makes of a file, as names and tensors."""
    import diffusers.loaders.single_file_utils as utils

    weights = load_file(file)
    if family == "flux":  # whose loader knows the width of the real model alone
        code = inspect.getsource(utils.convert_flux_transformer_checkpoint_to_diffusers)
        assert "inner_dim = 3072" in code
        names = dict(vars(utils))
        exec(code.replace("inner_dim = 3072", "inner_dim = 16"), names)
        own = {name: value for name, value in weights.items() if "diffusion_model." in name}
        return names["convert_flux_transformer_checkpoint_to_diffusers"](own)
    import diffusers

    kind = {"unet": "UNet2DConditionModel", "transformer": "SD3Transformer2DModel"}
    denoiser = DENOISERS[family]
    return (
        getattr(diffusers, kind[denoiser])
        .from_single_file(str(file), config=str(config), subfolder=denoiser, local_files_only=True)
        .state_dict()
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_files_are_merged_as_their_folders_and_diffusers_reads_the_result(home, tmp_path, family):
    folders, files = both(home, family), both(home, family, ".safetensors")
    space = m2n2lab.CheckpointSpace(*files)
    space.save(space.merge(*space.seeds, space.size, 0.3), tmp_path / "merged.safetensors")
    a, b, made = (load_file(path) for path in (*files, tmp_path / "merged.safetensors"))
    # SD 3's table of positions is a constant, equal in both.
    names = [name for name in space.layout.shapes if not torch.equal(a[name], b[name])]
    assert set(space.layout.shapes) - set(names) <= {"model.diffusion_model.pos_embed"}
    x, y = (flat(each[n] for n in space.layout.shapes) for each in (a, b))
    changed = flat(torch.full_like(a[n], n in names) for n in space.layout.shapes) > 0
    wanted = own_slerp(x, y, 0.3)[changed]
    np.testing.assert_allclose(flat(made[n] for n in names), wanted, rtol=0, atol=1e-6)
    assert all(torch.equal(made[name], a[name]) for name in set(a) - set(names))
    assert all(
        name.startswith(("first_stage_model.", "vae."))
        for name in set(a) - set(space.layout.shapes)
    )
    # The same merge of the folders, whose flat vector has another order.
    plain = m2n2lab.CheckpointSpace(*folders)
    merged = plain.materialise(plain.merge(*plain.seeds, plain.size, 0.3))
    denoiser = getattr(merged, DENOISERS[family]).state_dict()
    read = read_by_diffusers(tmp_path / "merged.safetensors", family, folders[0])
    assert set(read) == set(denoiser)
    for name, tensor in denoiser.items():
        if name == "pos_embed.pos_embed":  # which is scaled in folders
            continue
        torch.testing.assert_close(read[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "dtype"),
    quick(("sdxl", None), ("flux", "float16"), product(FAMILIES, (None, "float16"))),
)
def test_what_is_drawn_with_is_what_is_saved(home, tmp_path, family, dtype):
    import diffusers

    folders, files = both(home, family), both(home, family, ".safetensors")
    space = m2n2lab.CheckpointSpace(*files, config=folders[1], dtype=dtype)
    child = space.merge(*space.seeds, space.size // 2, 0.3)
    live = space.materialise(child)
    space.save(child, tmp_path / "saved", form="diffusers")
    saved = diffusers.DiffusionPipeline.from_pretrained(
        tmp_path / "saved", torch_dtype=torch.float16 if dtype else torch.float32
    )
    assert type(saved) is type(live)
    for name, module in saved.components.items():
        if isinstance(module, torch.nn.Module):
            own = getattr(live, name).state_dict()
            assert all(torch.equal(own[key], value) for key, value in module.state_dict().items())
    images = live("a b", num_inference_steps=1, height=16, width=16, output_type="np").images
    assert np.isfinite(images).all()
    m2n2lab.rebuild(tmp_path / "saved" / "recipe.json", tmp_path / "again")
    for path in (tmp_path / "saved").rglob("*"):
        if path.is_file():
            again = tmp_path / "again" / path.relative_to(tmp_path / "saved")
            assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("family", quick(("sdxl",), ("sd3",), product(FAMILIES)))
def test_folders_become_one_file_and_come_back(home, tmp_path, family):
    folders = both(home, family)
    space = m2n2lab.CheckpointSpace(*folders)
    child = space.merge(*space.seeds, space.size // 2, 0.3)
    space.save(child, tmp_path / "folder")
    out = tmp_path / "out" / "merged.safetensors"
    space.save(child, out)
    assert sorted(path.name for path in out.parent.iterdir()) == [
        *("merged.md", "merged.recipe.json", "merged.safetensors"),
    ]
    m2n2lab.rebuild(out.parent / "merged.recipe.json", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == out.read_bytes()
    read = read_by_diffusers(out, family, folders[0])
    denoiser = DENOISERS[family]
    stem = "diffusion_pytorch_model.safetensors"
    wanted = load_file(tmp_path / "folder" / denoiser / stem)
    assert all(torch.equal(read[name], tensor) for name, tensor in wanted.items())
    # Both conversions together change nothing, in any component.
    from m2n2lab.checkpoint.picture_conversion import write_folder

    write_folder(Checkpoint.open(out), str(folders[1]), tmp_path / "back")
    for path in (tmp_path / "folder").rglob("*.safetensors"):
        made = load_file(tmp_path / "back" / path.relative_to(tmp_path / "folder"))
        for name, tensor in load_file(path).items():
            hub = f"text_model.{name}"
            assert torch.equal(made[name if name in made else hub], tensor)


@pytest.mark.parametrize(
    ("family", "components"),
    quick(("sdxl", None), ("sd3", "denoiser"), product(FAMILIES, (None, "denoiser"))),
)
def test_a_file_beside_a_folder_is_read_in_place(home, tmp_path, family, components):
    folders, files = both(home, family), both(home, family, ".safetensors")
    chosen = components and [DENOISERS[family]]
    mixed = m2n2lab.CheckpointSpace(folders[0], files[1], components=chosen)
    plain = m2n2lab.CheckpointSpace(*folders, components=chosen)
    assert mixed.layout.shapes == plain.layout.shapes
    for space, name in ((mixed, "mixed"), (plain, "plain")):
        space.save(space.merge(*space.seeds, space.size // 2, 0.3), tmp_path / name)
    for path in (tmp_path / "plain").rglob("*.safetensors"):
        made = load_file(tmp_path / "mixed" / path.relative_to(tmp_path / "plain"))
        assert all(torch.equal(made[n], t) for n, t in load_file(path).items())
    record = m2n2lab.checkpoint.record.merge_record.Record.read(tmp_path / "mixed" / "recipe.json")
    assert record.seeds[1]["id"] == str(files[1])
    digest = hashlib.sha256(files[1].read_bytes()).hexdigest()
    assert record.seeds[1]["files"] == {files[1].name: digest}
    m2n2lab.rebuild(tmp_path / "mixed" / "recipe.json", tmp_path / "again")


@pytest.mark.parametrize(
    ("family", "prefix"),
    quick(("sd3", "diffusion_model."), ("flux", ""), product(FAMILIES, ("diffusion_model.", ""))),
)
def test_bare_denoisers_and_texts_without_text_model_fit(home, tmp_path, family, prefix):
    files = both(home, family, ".safetensors")
    weights = load_file(files[1])
    start = "model.diffusion_model."
    bare = {
        prefix + name.removeprefix(start): value
        for name, value in weights.items()
        if name.startswith(start)
    }
    save_file(bare, tmp_path / "bare.sft")
    short = {name.replace(".text_model.", "."): value for name, value in weights.items()}
    save_file(short, tmp_path / "short.safetensors")
    whole = m2n2lab.CheckpointSpace(*files)
    for name in ("bare.sft", "short.safetensors"):
        space = m2n2lab.CheckpointSpace(files[0], tmp_path / name)
        assert all(whole.layout.shapes[n] == s for n, s in space.layout.shapes.items())
        assert all(n in space.layout.shapes for n in whole.layout.shapes if n.startswith(start))
        assert len(space.layout.shapes) == len(whole.layout.shapes) or name == "bare.sft"


def test_a_bare_denoiser_is_drawn_with_the_rest_of_its_config(home, tmp_path):
    folders, files = both(home, "sdxl"), both(home, "sdxl", ".safetensors")
    for file in files:
        start = "model.diffusion_model."
        own = {n.removeprefix(start): t for n, t in load_file(file).items() if n.startswith(start)}
        save_file(own, tmp_path / file.name)
    space = m2n2lab.CheckpointSpace(*(tmp_path / f.name for f in files), config=folders[0])
    live = space.materialise(space.seeds[1])
    rest = load_file(folders[0] / "vae/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(live.vae.state_dict()[name], tensor) for name, tensor in rest.items())
    own = load_file(folders[1] / "unet/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(live.unet.state_dict()[name], tensor) for name, tensor in own.items())


def test_files_of_another_family_are_refused_in_one_sentence(home):
    with pytest.raises(InputError, match=r"expected a single file of SDXL, .* one of SD 1"):
        m2n2lab.CheckpointSpace(home / "sdxlA", home / "sd1B.safetensors")
    with pytest.raises(InputError, match=r"name the folder first, or make it a file: m2n2lab conv"):
        m2n2lab.CheckpointSpace(home / "sdxlA.safetensors", home / "sdxlB")
    space = m2n2lab.CheckpointSpace(*both(home, "sdxl", ".safetensors"), config=home / "sd1A")
    with pytest.raises(
        InputError, match=r"a pipeline of SDXL, but .* is one of SD 1; give another"
    ):
        space.materialise(space.seeds[0])


# SHA-256 of the lines "name shape" of real models' tensors, denoiser, text encoders and VAE, as
# they are in the files that were published (listed by sd-mecha's configs of models): those of
# sd1-ldm, sdxl-sgm, sd3-comfyui and flux-flux without schedule, EMA, position ids, logit scales.
PUBLISHED = {
    "sd1": "dd0d17c940fbd3a9caaa5c0908f12bcc529c3920a6edcf30fe8eedab2d41b931",
    "sdxl": "e8b4f0d1a190ee22bad61a944b38814e1f2a07fcd7d7261a5d06512eba767fe3",
}


@pytest.mark.slow
@pytest.mark.parametrize("family", PUBLISHED)
def test_full_models_have_the_names_and_shapes_of_the_published_files(family):
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    with torch.device("meta"):
        clip = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
            )
        )
        big = CLIPTextModelWithProjection(
            CLIPTextConfig(
                hidden_size=1280,
                intermediate_size=5120,
                num_hidden_layers=32,
                num_attention_heads=20,
                projection_dim=1280,
                hidden_act="gelu",
            )
        )
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
        own = {"unet": UNet2DConditionModel(cross_attention_dim=768), "text_encoder": clip}
        if family == "sdxl":
            own |= {
                "text_encoder_2": big,
                "unet": UNet2DConditionModel(
                    cross_attention_dim=2048,
                    block_out_channels=(320, 640, 1280),
                    attention_head_dim=(5, 10, 20),
                    transformer_layers_per_block=(1, 2, 10),
                    use_linear_projection=True,
                    addition_embed_type="text_time",
                    addition_time_embed_dim=256,
                    projection_class_embeddings_input_dim=2816,
                    down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * 2),
                    up_block_types=(*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
                ),
            }
    shapes = {
        component: {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        for component, module in {**own, "vae": vae}.items()
    }
    found = layout(family, shapes)
    assert not found.unknown
    lines = [f"{name} {list(held.shape)}" for name, held in sorted(found.held.items())]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == PUBLISHED[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_has_a_place_of_its_own(family):
    shapes = {
        component: {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        for component, module in modules(family).items()
    }
    found = layout(family, shapes)
    assert not found.unknown
    placed = {(c, name) for held in found.held.values() for c, name, _ in held.tensors}
    left = {(c, n) for c, names in shapes.items() for n in names} - placed
    assert all(name.endswith(("position_ids", "embed_tokens.weight")) for _, name in left)


@pytest.mark.parametrize("suffix", ["", ".safetensors"])
def test_a_model_in_8_bits_is_drawn_with_as_it_is_saved(home, tmp_path, suffix):
    import diffusers

    space = m2n2lab.CheckpointSpace(
        *both(home, "sdxl", suffix), dtype="fp8", config=home / "sdxlA" if suffix else None
    )
    child = space.merge(*space.seeds, space.size // 2, 0.3)
    live = space.materialise(child)
    space.save(child, tmp_path / "saved", form="diffusers")
    saved = load_file(tmp_path / "saved" / "unet" / "diffusion_pytorch_model.safetensors")
    dtypes = {value.dtype for value in saved.values()}
    assert dtypes == {torch.float8_e4m3fn, torch.float32}
    own = live.unet.state_dict()
    assert all(torch.equal(own[name], value.float()) for name, value in saved.items())
    diffusers.DiffusionPipeline.from_pretrained(tmp_path / "saved")
