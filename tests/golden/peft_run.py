"""The recorded runs of make_cases.py, make_loftq_cases.py and make_variant_cases.py."""
import torch
import transformers


def train(model, batches, steps, optimizer=None):
    """Trains in place by AdamW (or the optimizer given) with a cosine schedule, step s on batch s mod 3; loss, gradient norm before clipping and rate of each step."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = optimizer or torch.optim.AdamW(trained, lr=2e-3, weight_decay=0.01)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 4, steps)
    log = []
    for step in range(steps):
        loss = model(**batches[step % 3]).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        log.append({"step": step + 1, "loss": loss.item(), "grad_norm": norm.item(), "lr": schedule.get_last_lr()[0]})
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return log
