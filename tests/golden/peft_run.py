"""The recorded runs of make_cases.py and make_loftq_cases.py."""
import torch
import transformers


def train(model, batches, steps):
    """Trains in place by AdamW with a cosine schedule, step s on batch s mod 3; loss, gradient norm before clipping and rate of each step."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-3, weight_decay=0.01)
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
