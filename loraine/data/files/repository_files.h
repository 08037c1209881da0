// Which files of a repository hold the rows that are meant. Called by read_rows.cpp.
#pragma once
#include <string>
#include <vector>

#include "loraine/data/rows/rows.h"

namespace loraine {

// Of the repository's folder info.file_name, the data files of info.split (told by names of files and folders, as `datasets` does where a
// repository says nothing of its own), in info.inside and of info.subset where these are given; in the order of their names. Throws
// bad_data where there are none.
std::vector<std::string> repository_files(const DatasetInfo& info);

}  // namespace loraine
