// Downloads and uploads on the screen: a line for what is loaded; on a terminal one for each file, with bytes and rate.
#pragma once
#include <string>

#include "loraine/io/hub/hub.h"

namespace loraine {

void show_transfers();  // from now on; HF_HUB_DISABLE_PROGRESS_BARS leaves the lines of files out

std::string transfer_line(const TransferState& state, size_t width);  // "model.safetensors  45 %  123.4 / 270.1 MiB  12.3 MiB/s  0:12 left"

}  // namespace loraine
