# Debian packages: svm-pmu (plugin, programs, manual pages) and svm-pmu-dev (ABI, guides, examples).
#   cmake --preset package && cmake --build --preset package && cpack --preset package
# The preset has the prefix /usr: paths are compiled into the programs.
set(SVM_PMU_PACKAGE_CONTACT "svm_pmu authors <svm-pmu@packages.invalid>" CACHE STRING
    "Maintainer of the packages: name and address")
set(package_dir ${PROJECT_SOURCE_DIR}/plugin/package)
set(package_build_dir ${PROJECT_BINARY_DIR}/package)
set(package_release 1)

# ---- what Debian wants beside the programs: licence and change log, a copy a package
file(STRINGS LICENSE copyright_line REGEX "^Copyright ")
string(REPLACE "Copyright (c) " "" copyright_line "${copyright_line}")
file(READ LICENSE licence)
string(REGEX REPLACE "^.*\n(Permission is )" "\\1" licence "${licence}")
string(REGEX REPLACE "\n\n" "\n.\n" licence "${licence}")
string(REGEX REPLACE "\n(.)" "\n \\1" licence "${licence}")
configure_file(${package_dir}/copyright.in ${package_build_dir}/copyright @ONLY)
execute_process(COMMAND date --utc --date=@${PROJECT_DATE_SECONDS} --rfc-email
                OUTPUT_VARIABLE package_date OUTPUT_STRIP_TRAILING_WHITESPACE
                COMMAND_ERROR_IS_FATAL ANY)
configure_file(${package_dir}/changelog.in ${package_build_dir}/changelog.Debian @ONLY)
configure_file(CHANGELOG.md ${package_build_dir}/changelog COPYONLY)
execute_process(COMMAND ${GZIP} -9nfk changelog changelog.Debian
                WORKING_DIRECTORY ${package_build_dir} COMMAND_ERROR_IS_FATAL ANY)

set(doc_dir ${CMAKE_INSTALL_DATAROOTDIR}/doc)
foreach(package_component svm-pmu:runtime svm-pmu-dev:devel)
  string(REGEX MATCH "^(.*):(.*)$" matched ${package_component})
  install(FILES ${package_build_dir}/copyright ${package_build_dir}/changelog.gz
                ${package_build_dir}/changelog.Debian.gz
          DESTINATION ${doc_dir}/${CMAKE_MATCH_1} COMPONENT ${CMAKE_MATCH_2})
endforeach()
install_page(README.md ${doc_dir}/svm-pmu runtime)
install_page(plugin/MIGRATION.md ${doc_dir}/svm-pmu/plugin runtime)
install_page(host_preload/README.md ${doc_dir}/svm-pmu/host_preload runtime)

if(NOT HELP2MAN OR SVM_PMU_SANITIZE)
  return()
endif()

# ---- CPack
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME svm-pmu)
set(CPACK_PACKAGE_VENDOR "svm_pmu authors")
set(CPACK_PACKAGE_CONTACT "${SVM_PMU_PACKAGE_CONTACT}")
set(CPACK_PACKAGING_INSTALL_PREFIX ${CMAKE_INSTALL_PREFIX})
set(CPACK_COMPONENTS_ALL runtime devel)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
    OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE ${package_release})
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)

set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME svm-pmu)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION misc)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_RUNTIME_DESCRIPTION "fixes for KVM's AMD vPMU, for any virtual machine monitor
 A plugin that resets the AMD performance monitoring registers with the
 virtual CPU, and can take the vPMU away from guests; the launcher vmm-run,
 which brings plugins to unmodified virtual machine monitors such as QEMU;
 svm-pmu, which tells an operator what a host needs and what it has; and
 host_stub, which shows what plugins do on a simulated KVM.")
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SUGGESTS svm-pmu-dev)
set(CPACK_DEBIAN_DEVEL_PACKAGE_NAME svm-pmu-dev)
set(CPACK_DEBIAN_DEVEL_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVEL_PACKAGE_MULTIARCH same)
set(CPACK_DEBIAN_DEVEL_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_DEVEL_PACKAGE_DEPENDS "libc6-dev, linux-libc-dev")
set(CPACK_DEBIAN_DEVEL_PACKAGE_RECOMMENDS
    "svm-pmu (= ${PROJECT_VERSION}-${package_release})")
set(CPACK_DEBIAN_DEVEL_DESCRIPTION "stable C ABI for plugins of virtual machine monitors
 The headers of the ABI, its rules, guides for authors of plugins and of hosts,
 a plugin and a host in C as examples, a plugin that records what a host does
 for host_stub to judge, and files for CMake and pkg-config.")
include(CPack)
