// Which files of a repository are needed: those that loraine reads of a model, an adapter or a data set. Called before a download, and to
// tell whether a snapshot whose listing is known is whole.
#pragma once
#include <string>
#include <vector>

#include "loraine/io/hub/listing.h"

namespace loraine {

struct Selection {
  std::vector<std::string> files;   // in the order in which they are wanted: small ones first
  std::string index;                // of them, the one that names the shards of the weights; empty: none
  std::vector<std::string> absent;  // would have been taken, and the repository has none
};

// Throws bad_data for a repository that holds no such thing (`what` names it), or several GGUF files and no other model.
Selection select_files(const Listing& listing, HubKind kind, const std::string& subfolder, const std::string& what);

// Whether a selected file is needed to make anything of the rest; of the others some are, when there is text (tokenizer, templates).
enum class Need : uint8_t { always, text, no };
Need need_of(const std::string& path, HubKind kind);

// The shards that an index names, in order, each once, with the index's folder before them. bad_data where the file is no index, or names
// what cannot be a file.
std::vector<std::string> shards_of(const std::string& index_file, const std::string& index);

}  // namespace loraine
