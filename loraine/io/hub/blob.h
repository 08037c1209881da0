// One file of a hub onto this disk: resumed where it was left, checked against the listed size and hash, under its final name only when all
// of that is right. Called by fetch.cpp.
#pragma once
#include <filesystem>
#include <string>

#include "loraine/io/hub/listing.h"

namespace loraine {

struct BlobPlace {
  std::filesystem::path file;  // where it comes to lie; what is there of it so far has .incomplete at its end
  std::filesystem::path lock;  // held while it is loaded, so that several processes load it once
};

// `file` has a size. Throws what failed_request says; bad_data for bytes that are not those listed; io; Stopped.
void load_blob(HttpClient& client, const std::string& id, HubKind kind, const std::string& commit, const ListedFile& file,
               const BlobPlace& place);

// Whether the file is there in the listed size.
bool has_listed_size(const std::filesystem::path& path, const ListedFile& file);

}  // namespace loraine
