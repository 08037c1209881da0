// The text side of a model folder: tokenizer, template and generation settings, written beside weights or an adapter. Used by train,
// export.
#pragma once
#include <string>

#include "loraine/io/model_files.h"

namespace loraine {

// The tokenizer's files and the chat templates, those that there are. What they say is spelled so that transformers 4 and 5, and readers of
// one of the two places of a chat template, understand it.
void write_tokenizer_files(const ModelFiles& files, const std::string& folder);
// LICENSE, NOTICE and the like, generation_config.json and this config.json, which comes last: a folder without it is not taken for a
// model.
void write_config_files(const ModelFiles& files, const Json& config, const std::string& folder);

// generation_config.json without what transformers refuses to save again: where sampling has a temperature and the like, do_sample is true;
// what only counts with beams, or with return_dict_in_generate, goes where those are off.
Json consistent_generation_config(Json config);

}  // namespace loraine
