#!/usr/bin/env python3
"""Checkpoints in the formats of other quantisers, and what transformers + PEFT compute with their dequantised weights, for tools/golden.py. Run by hand:
needs torch, transformers, peft, and compressed-tensors, hqq and aqlm for the cases of theirs.

usage: make_quantised_cases.py OUT_DIR [SEED [NAME...]]        float32, CPU, one thread, eager attention; only the cases of these names
Per case: model/ (config.json with its quantization_config, model.safetensors), out.safetensors (a batch; `base_loss`; with the adapter ../lora `logits`,
`loss` and some of the gradients), case.json (SHA-256 of each dequantised weight as float32, and the losses of a run over three batches).
GPTQ, AWQ, FP8 and AQLM are packed here, by the formats' definitions; compressed-tensors' and HQQ's own libraries pack and unpack their formats, aqlm unpacks
AQLM's. A case whose config is none is the model in full, in model/, to be quantised while it is loaded with the settings in case.json's `load`.
"""
import hashlib
import importlib.metadata
import json
import os
import pathlib
import shutil
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import numpy
import peft
import torch
import transformers
from safetensors.torch import save_file

transformers.logging.set_verbosity_error()
shape = dict(
    vocab_size=16, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=64,
    bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.2, tie_word_embeddings=False,
)
attention, mlp = [f"self_attn.{x}_proj" for x in "qkvo"], [f"mlp.{x}_proj" for x in ("gate", "up", "down")]
modules = [f"model.layers.0.{name}" for name in attention + mlp]
steps = 6


def stream(values, bits):
    """[n, columns] whole numbers to int32 words [ceil(n · bits / 32), columns]: down each column, the lowest bits first."""
    ones = (values[:, None, :] >> numpy.arange(bits)[None, :, None]) & 1
    ones = ones.reshape(-1, values.shape[1])
    ones = numpy.concatenate([ones, numpy.zeros((-len(ones) % 32, values.shape[1]), dtype=ones.dtype)])
    words = (ones.reshape(-1, 32, values.shape[1]).astype(numpy.uint64) << numpy.arange(32, dtype=numpy.uint64)[None, :, None]).sum(1)
    return torch.from_numpy(words.astype(numpy.uint32).view(numpy.int32).copy())


def to_codes(weight, groups, bits, symmetric):
    """Codes [out, in], scales and zeros [out, number of groups] of a weight whose columns are in `groups`."""
    number = int(groups.max()) + 1
    scales, zeros = torch.zeros(weight.shape[0], number), torch.full((weight.shape[0], number), 2 ** (bits - 1))
    for group in range(number):
        part = weight[:, groups == group]
        if symmetric:
            scales[:, group] = part.abs().amax(1) / (2 ** (bits - 1))
        else:
            low, high = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
            scales[:, group] = (high - low) / (2**bits - 1)
            zeros[:, group] = torch.round(-low / scales[:, group]).clamp(1, 2**bits - 1)
    scales = scales.half()
    codes = torch.round(weight / scales.float()[:, groups] + zeros[:, groups]).clamp(0, 2**bits - 1).to(torch.int64)
    return codes, scales, zeros.to(torch.int64)


def gptq(bits, group_size, symmetric=True, act_order=False, version=1):
    def pack(module, weight):
        columns = weight.shape[1]
        groups = torch.arange(columns) // (columns if group_size == -1 else group_size)
        if act_order:
            groups = groups[torch.randperm(columns)]
        codes, scales, zeros = to_codes(weight, groups, bits, symmetric)
        dequantised = (codes - zeros[:, groups]).float() * scales.float()[:, groups]
        tensors = {
            "qweight": stream(codes.numpy().T, bits), "qzeros": stream(zeros.numpy() - (version == 1), bits).T.contiguous(), "scales": scales.T.contiguous(),
            "g_idx": groups.to(torch.int32),
        }
        return {f"{module}.{name}": tensor for name, tensor in tensors.items()}, dequantised

    config = dict(bits=bits, group_size=group_size, sym=symmetric, desc_act=act_order, quant_method="gptq", checkpoint_format="gptq" if version == 1 else "gptq_v2")
    return pack, config, torch.float16


def awq(group_size):
    def pack(module, weight):
        groups = torch.arange(weight.shape[1]) // group_size
        codes, scales, zeros = to_codes(weight, groups, 4, False)
        dequantised = (codes - zeros[:, groups]).float() * scales.float()[:, groups]
        order = [0, 2, 4, 6, 1, 3, 5, 7]
        reordered = lambda values: values.reshape(-1, 8, values.shape[1])[:, order].reshape(-1, values.shape[1])
        tensors = {
            "qweight": stream(reordered(codes).numpy(), 4).T.contiguous(), "qzeros": stream(reordered(zeros).numpy(), 4).T.contiguous(),
            "scales": scales.T.contiguous(),
        }
        return {f"{module}.{name}": tensor for name, tensor in tensors.items()}, dequantised

    return pack, dict(bits=4, group_size=group_size, version="gemm", zero_point=True, quant_method="awq", modules_to_not_convert=["self_attn.v_proj"]), torch.float16


def fp8(block, static=False):
    def pack(module, weight):
        rows, columns = block or weight.shape
        scale = torch.zeros(-(-weight.shape[0] // rows), -(-weight.shape[1] // columns))
        for r in range(scale.shape[0]):
            for c in range(scale.shape[1]):
                scale[r, c] = weight[r * rows : (r + 1) * rows, c * columns : (c + 1) * columns].abs().max() / 448
        spread = scale.repeat_interleave(rows, 0)[: weight.shape[0]].repeat_interleave(columns, 1)[:, : weight.shape[1]]
        codes = (weight / spread).to(torch.float8_e4m3fn)
        tensors = {f"{module}.weight": codes, f"{module}.weight_scale_inv": scale if block else scale.reshape(())}
        if static:
            tensors[f"{module}.activation_scale"] = torch.tensor(0.02)
        return tensors, codes.float() * spread

    config = dict(quant_method="fp8", activation_scheme="static" if static else "dynamic", weight_block_size=list(block) if block else None, modules_to_not_convert=["lm_head"])
    return pack, config, torch.bfloat16


def compressed(form, activations=None, scale_type=torch.float32, **weights):
    """By compressed-tensors itself: scales are found here, the library quantises, packs and unpacks."""
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme

    args = QuantizationArgs(**weights)
    scheme = QuantizationScheme(targets=["Linear"], weights=args, input_activations=activations, format=form)
    compressor = BaseCompressor.get_value_from_registry(form)

    def pack(module, weight):
        size = weight.shape[1] if not args.group_size or args.group_size < 0 else args.group_size
        if args.strategy == "tensor":
            parts = weight.reshape(1, 1, -1)
        elif args.strategy == "block":
            rows, columns = args.block_structure
            parts = weight.reshape(weight.shape[0] // rows, rows, -1, columns).permute(0, 2, 1, 3).reshape(weight.shape[0] // rows, -1, rows * columns)
        else:
            parts = weight.reshape(weight.shape[0], -1, size)
        state = {"weight": weight}
        top = {("int", 4): 7, ("int", 8): 127, ("float", 8): 448, ("float", 4): 6}[args.type, args.num_bits]
        scale = parts.abs().amax(-1) / top
        if not args.symmetric:
            low, high = parts.amin(-1).clamp(max=0), parts.amax(-1).clamp(min=0)
            scale = (high - low) / (2**args.num_bits - 1)
            state["weight_zero_point"] = torch.round(-low / scale - 2 ** (args.num_bits - 1)).clamp(-(2 ** (args.num_bits - 1)), 2 ** (args.num_bits - 1) - 1).to(torch.int8)
        if args.strategy == "tensor_group":  # NVFP4: scales are FP8 themselves, over one of the whole matrix
            state["weight_global_scale"] = 448 * 6 / weight.abs().max().reshape(1)
            scale = (scale * state["weight_global_scale"]).to(torch.float8_e4m3fn).float()
        if form == "mxfp4-pack-quantized":
            scale = torch.exp2(torch.ceil(torch.log2(scale)))
        state["weight_scale"] = (scale.reshape(1) if args.strategy == "tensor" else scale).to(scale_type)
        packed = compressor.compress(state, scheme)
        packed = {name: tensor for name, tensor in packed.items() if tensor is not None}
        wide = {name: tensor.float() if name == "weight_scale" and tensor.dtype in (torch.bfloat16, torch.float16) else tensor for name, tensor in packed.items()}
        dequantised = compressor.decompress(dict(wide), scheme)["weight"]
        if scale_type != torch.float32:  # what the library computes in that type is this, rounded
            assert torch.equal(compressor.decompress(dict(packed), scheme)["weight"], dequantised.to(scale_type))
        if args.num_bits == 4 and args.type == "float":  # which the library rounds to bfloat16 on the way
            table = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
            codes = torch.stack([packed["weight_packed"] & 15, packed["weight_packed"] >> 4], -1).reshape(weight.shape).long()
            stored = packed["weight_scale"]
            step = torch.exp2(stored.float() - 127) if stored.dtype == torch.uint8 else stored.float() / packed["weight_global_scale"]
            exact = table[codes] * step.repeat_interleave(size, 1)
            assert torch.equal(exact.bfloat16(), dequantised.bfloat16())
            dequantised = exact
        return {f"{module}.{name}": tensor.contiguous() for name, tensor in packed.items()}, dequantised.float()

    group = {"targets": ["Linear"], "weights": json.loads(args.model_dump_json()), "input_activations": activations, "output_activations": None, "format": form}
    config = dict(quant_method="compressed-tensors", format=form, quantization_status="compressed", config_groups={"group_0": group}, ignore=["lm_head"], kv_cache_scheme=None)
    QuantizationConfig.model_validate(config)
    return pack, config, torch.bfloat16


def hqq(bits, group_size, axis, scale_type=torch.float32, view_as_float=False, full=False, qmodel=False):
    """By HQQ itself, on the CPU. full: the model stays as it is, and these settings make the same of it. qmodel: in the library's own file."""
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

    def pack(module, weight):
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.weight.data = weight.clone()
        settings = BaseQuantizeConfig(nbits=bits, group_size=group_size, axis=axis, view_as_float=view_as_float)
        layer = HQQLinear(linear, settings, compute_dtype=scale_type, device="cpu")
        meta = layer.meta
        codes = layer.unpack(dtype=torch.float32) if not view_as_float else type(layer).unpack(_viewed(layer), dtype=torch.float32)
        codes = codes[: group_size if axis == 0 else weight.numel() // group_size]  # 3 bits are filled up
        dequantised = ((codes - meta["zero"].float()) * meta["scale"].float()).reshape(weight.shape)
        assert torch.allclose(layer.dequantize().float(), dequantised, rtol=0.02, atol=0.02)
        if scale_type == torch.float32:
            assert torch.equal(layer.dequantize(), dequantised)
        if full:
            return {f"{module}.weight": weight}, dequantised
        return {f"{module}.{name}": tensor.data.contiguous() for name, tensor in layer.state_dict().items() if isinstance(tensor, torch.Tensor)}, dequantised

    def _viewed(layer):
        bytes_of = type("Bytes", (), {})()
        bytes_of.ready, bytes_of.meta, bytes_of.W_q, bytes_of.compute_dtype = True, layer.meta, layer.W_q.data.view(layer.meta["unpack_view_dtype"]), layer.compute_dtype
        return bytes_of

    if qmodel:
        return pack, dict(qmodel=BaseQuantizeConfig(nbits=bits, group_size=group_size, axis=axis)), torch.float32
    if full:
        return pack, dict(quantization_bit=bits, quantization_method="hqq", hqq_axis=axis, hqq_group_size=group_size), torch.float32
    quant_config = json.loads(json.dumps(BaseQuantizeConfig(nbits=bits, group_size=group_size, axis=axis, view_as_float=view_as_float)))
    return pack, dict(quant_method="hqq", quant_config=quant_config, skip_modules=["lm_head"]), scale_type


def aqlm(books, bits):
    """Codes and books at random; the aqlm package's own function makes weights of them."""
    from aqlm.utils import _dequantize_weight, pack_int_data

    def pack(module, weight):
        rows, columns = weight.shape
        codes = torch.randint(2**bits, (rows, columns // 8, books))
        codebooks = (torch.randn(books, 2**bits, 1, 8) * 0.2).half()
        scales = (torch.rand(rows, 1, 1, 1) + 0.5).half()
        dequantised = _dequantize_weight(codes, codebooks.float(), scales.float())
        return {f"{module}.codes": pack_int_data(codes.clone(), bits), f"{module}.codebooks": codebooks, f"{module}.scales": scales}, dequantised

    config = dict(quant_method="aqlm", in_group_size=8, out_group_size=1, num_codebooks=books, nbits_per_codebook=bits, linear_weights_not_to_quantize=["lm_head.weight"])
    return pack, config, torch.float16


def cases():
    tokens = dict(num_bits=8, type="int", strategy="token", dynamic=True)
    return {
        "gptq_4": lambda: gptq(4, 32),  # 48 columns are a group and half a one
        "gptq_8_v2": lambda: gptq(8, -1, symmetric=False, version=2),
        "gptq_4_act_order": lambda: gptq(4, 16, symmetric=False, act_order=True),
        "gptq_2": lambda: gptq(2, 16, symmetric=False),
        "gptq_3": lambda: (*gptq(3, 32), attention),  # sizes are multiples of 32
        "awq": lambda: awq(16),
        "fp8_block": lambda: fp8((24, 20)),
        "fp8_tensor": lambda: fp8(None, static=True),
        "int4_group": lambda: compressed("pack-quantized", num_bits=4, type="int", strategy="group", group_size=16, symmetric=True, scale_type=torch.bfloat16),
        "int4_zeros": lambda: compressed("pack-quantized", num_bits=4, type="int", strategy="group", group_size=16, symmetric=False),
        "int8_channel": lambda: compressed("pack-quantized", num_bits=8, type="int", strategy="channel", symmetric=True),
        "int8_activations": lambda: compressed("int-quantized", tokens, num_bits=8, type="int", strategy="channel", symmetric=False),
        "fp8_channel": lambda: compressed("float-quantized", {**tokens, "type": "float"}, num_bits=8, type="float", strategy="channel", symmetric=True, scale_type=torch.bfloat16),
        "fp8_naive": lambda: compressed("naive-quantized", num_bits=8, type="float", strategy="block", block_structure=[16, 16], symmetric=True),
        "hqq_4": lambda: hqq(4, 16, 1, torch.bfloat16),
        "hqq_3": lambda: hqq(3, 16, 0),
        "hqq_2": lambda: hqq(2, 32, 1, torch.float16),  # of 48 columns: groups go over the ends of rows
        "hqq_1": lambda: hqq(1, 8, 1, view_as_float=True),
        "hqq_2_qmodel": lambda: hqq(2, 16, 1, qmodel=True),
        "hqq_4_at_load": lambda: hqq(4, 16, 1, full=True),
        "hqq_2_at_load": lambda: hqq(2, 16, 0, full=True),
        "aqlm_2x8": lambda: (*aqlm(2, 8), [*attention[:2], mlp[2]]),
        "nvfp4": lambda: compressed("nvfp4-pack-quantized", num_bits=4, type="float", strategy="tensor_group", group_size=16, symmetric=True),
        "mxfp4": lambda: (*compressed("mxfp4-pack-quantized", num_bits=4, type="float", strategy="group", group_size=32, symmetric=True), [*attention, *mlp[:2]]),
    }


def draw_batch(lengths=(8, 6)):
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(3, shape["vocab_size"], (length,))
        labels[row, 2:length] = ids[row, 2:length]
        mask[row, :length] = 1
    return dict(input_ids=ids, labels=labels, attention_mask=mask)


def adapted(weights, folder=None, trainable=True):
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape, attn_implementation="eager")).float()
    model.load_state_dict(weights)
    if folder:
        return peft.PeftModel.from_pretrained(model, folder, is_trainable=trainable)
    return peft.get_peft_model(model, peft.LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM"))


def digest(tensor):
    return hashlib.sha256((tensor.float() + 0.0).numpy().tobytes()).hexdigest()


def record(folder, base, lora, batches, pack, config, plain_type, only=(*attention, *mlp)):
    stored, weights, left = {}, {}, config.get("modules_to_not_convert") or []
    if "ignore" in config:
        config["ignore"] += [module for module in modules if not module.endswith(tuple(only))]
    for name, tensor in base.items():
        module = name.removesuffix(".weight")
        if module.endswith(tuple(only)) and not module.endswith(tuple(left)):
            tensors, weights[name] = pack(module, tensor)
            stored.update(tensors)
        else:
            stored[name] = tensor.to(plain_type)
            weights[name] = stored[name].float()
    settings = transformers.LlamaConfig(**shape).to_diff_dict()
    load = config if "quantization_bit" in config else None
    qmodel = config.get("qmodel")
    settings.update(architectures=["LlamaForCausalLM"], dtype=str(plain_type).removeprefix("torch."), quantization_config=None if load or qmodel else config)
    (folder / "model").mkdir(parents=True)
    (folder / "model/config.json").write_text(json.dumps({k: v for k, v in settings.items() if v is not None}, separators=(",", ":")) + "\n")
    if qmodel:
        from hqq.models.hf.base import AutoHQQHFModel

        library = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape)).float()
        library.load_state_dict(base)
        AutoHQQHFModel.quantize_model(library, qmodel, compute_dtype=torch.float32, device="cpu")
        AutoHQQHFModel.save_weights(AutoHQQHFModel.serialize_weights(library), folder / "model")
    else:
        save_file(stored, folder / "model/model.safetensors", {"format": "pt"})

    model = adapted(weights, lora)
    with torch.no_grad(), model.disable_adapter():
        base_loss = model(**batches[0]).loss.reshape(1)
    output = model(**batches[0])
    output.loss.backward()
    kept = ("q_proj", "down_proj")
    gradients = {"grad." + n.replace(".default", ""): p.grad for n, p in model.named_parameters() if p.grad is not None and any(k in n for k in kept)}
    save_file({**batches[0], "base_loss": base_loss, "logits": output.logits.detach().contiguous(), "loss": output.loss.detach().reshape(1), **gradients}, folder / "out.safetensors")

    model = adapted(weights, lora).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.AdamW(trained, lr=2e-2, weight_decay=0.0), []
    for step in range(steps):
        loss = model(**batches[step % 3]).loss
        loss.backward()
        losses.append(loss.item())
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    hashes = {name: digest(tensor) for name, tensor in weights.items() if tensor.dim() == 2}
    recorded = {"weights": hashes, "losses": losses} | ({"load": load} if load else {})
    (folder / "case.json").write_text(json.dumps(recorded, indent=0) + "\n")


def main():
    out, seed, names = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 21, sys.argv[3:]
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    base = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape)).float().state_dict()
    base = {name: tensor + torch.randn_like(tensor) * 0.1 if tensor.dim() == 1 else tensor for name, tensor in base.items()}
    model = adapted(base)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    model.save_pretrained(out / "lora")
    (out / "lora/README.md").unlink(missing_ok=True)
    settings = json.loads((out / "lora/adapter_config.json").read_text())
    settings.update(base_model_name_or_path="model", target_modules=sorted(settings["target_modules"]))
    (out / "lora/adapter_config.json").write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n")
    batches = [draw_batch() for _ in range(3)]
    save_file({f"{key}{i}": value for i, batch in enumerate(batches) for key, value in batch.items()}, out / "batches.safetensors")
    for name, case in cases().items():
        if names and name not in names:
            continue
        torch.manual_seed(seed + 1)
        shutil.rmtree(out / name, ignore_errors=True)
        record(out / name, base, out / "lora", batches, *case())
        print(name)
    file = out / "versions.json"
    versions = json.loads(file.read_text()) if file.exists() else {}
    for name in ("torch", "transformers", "peft", "compressed_tensors", "hqq", "aqlm"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # none of its cases are made
            continue
    file.write_text(json.dumps(versions | {"seed": seed}) + "\n")


main()
