<?php
// Installs WordPress by its own function, as its installation page does, and writes a first post.
//
//   php install.php DIRECTORY TITLE
[, $directory, $title] = $argv;
define('WP_INSTALLING', true);

/// WordPress would send a mail.
function wp_new_blog_notification(): void
{
}

// What WordPress reads of a request; there is none.
$_SERVER['HTTP_HOST'] = parse_url(getenv('SITE'), PHP_URL_HOST);
$_SERVER['REQUEST_URI'] = '/';
require "$directory/wp-load.php";
require ABSPATH . 'wp-admin/includes/upgrade.php';

wp_install('Selkie', 'admin', 'admin@example.invalid', true, '', getenv('PASSWORD'));
$post = wp_insert_post(['post_title' => $title, 'post_content' => "The whole of it: \u{1f9ad}", 'post_status' => 'publish'], true);
if (is_wp_error($post)) {
    fwrite(STDERR, $post->get_error_message());
    exit(1);
}
echo "post $post\n";
