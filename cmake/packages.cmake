# What `cmake --install` and cpack put where, beside the library. Component program: what a user needs; tools/package.sh makes packages of it.
install(TARGETS loraine RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT program)
# What the program prints of itself.
set(loraine_pages "help --man" ${CMAKE_INSTALL_MANDIR}/man1/loraine.1
                  "help --completion bash" ${CMAKE_INSTALL_DATADIR}/bash-completion/completions/loraine
                  "help --completion zsh" ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions/_loraine
                  "help --completion fish" ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d/loraine.fish)
while(loraine_pages)
  list(POP_FRONT loraine_pages words file)
  separate_arguments(words)
  list(JOIN words "\" \"" words)
  cmake_path(GET file PARENT_PATH folder)
  install(CODE "
    set(file \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${file}\")
    message(STATUS \"Installing: \${file}\")
    file(MAKE_DIRECTORY \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${folder}\")
    execute_process(COMMAND \"$<TARGET_FILE:loraine>\" \"${words}\" OUTPUT_FILE \"\${file}\" COMMAND_ERROR_IS_FATAL ANY)"
          COMPONENT program)
endwhile()
install(FILES LICENSE README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT program)
# LLaMA-Factory's names as links to the program, where its own are not wanted: cmake --install build --component llamafactory
foreach(name llamafactory-cli lmf)
  install(CODE "execute_process(COMMAND \${CMAKE_COMMAND} -E create_symlink loraine \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}/${name}\" COMMAND_ERROR_IS_FATAL ANY)"
          COMPONENT llamafactory EXCLUDE_FROM_ALL)
endforeach()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME loraine)
set(CPACK_PACKAGE_CONTACT "the loraine project <loraine@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "fine-tunes, runs, serves and merges language models with LoRA")
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR}/packages)
set(CPACK_COMPONENTS_ALL program)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING ALL_COMPONENTS_IN_ONE)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "libcurl4, ca-certificates, fonts-dejavu-core")  # hubs; texts in plots
include(CPack)
